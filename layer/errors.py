"""The exception with which the builder refuses."""


class Refused(Exception):
    """A working layer cannot be built: `problem` says what is wrong, `remedy` what to do about it."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}. {remedy}.")
        self.problem = problem
        self.remedy = remedy
