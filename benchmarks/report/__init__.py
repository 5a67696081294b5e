"""Show a summary to a person: in the terminal, in a pull request, on a page."""
