"""Shows the progress of a command on standard error."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


def build_progress(unit: str) -> Progress:
    """Builds a progress bar that counts in `unit`, such as rows."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        # Results go to standard output, which may be a file: the progress must not redirect it
        redirect_stdout=False,
    )
