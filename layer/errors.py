"""How the builder refuses."""


class Refused(Exception):
    """The layer cannot be built so that it works: what is wrong, and what to do about it."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}. {remedy}.")
        self.problem = problem
        self.remedy = remedy
