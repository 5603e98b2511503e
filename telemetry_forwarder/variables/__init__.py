"""The public interface as data: every environment variable, how it is read, and what is said of a wrong one."""
