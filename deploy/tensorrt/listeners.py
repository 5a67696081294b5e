"""Objects that a library talks to: what it says of errors, and how far it is."""

from typing import Any

from quant.progress import Progress

__all__ = ["logger_of", "monitor_of"]


def logger_of(trt: Any) -> Any:
    """A logger of the library that keeps errors; ``last()`` gives the first of them, nearest to the cause."""

    class Logger(trt.ILogger):  # type: ignore[misc]  # the base class comes with the library
        """Keeps what the library says about errors."""

        def __init__(self) -> None:
            super().__init__()
            self.messages: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.messages.append(" ".join(message.split()))

        def last(self) -> str:
            """The first error, which is nearest to the cause."""
            return self.messages[0] if self.messages else "it gave no reason"

    return Logger()


def monitor_of(trt: Any, progress: Progress) -> Any:
    """A monitor that tells the builder's outermost phases; TensorRT has them from 10 on."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Tells the builder's outermost phases."""

        def __init__(self) -> None:
            super().__init__()
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                self._steps[phase_name] = num_steps
                progress(phase_name, 0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self._steps:
                progress(phase_name, step + 1, self._steps[phase_name])
            return True

        def phase_finish(self, phase_name: str) -> None:
            steps = self._steps.pop(phase_name, None)
            if steps is not None:
                progress(phase_name, steps, steps)

    return Monitor()
