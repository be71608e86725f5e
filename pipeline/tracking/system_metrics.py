"""The load of the machine while a run lasts, where MLflow's own switch asks for it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING

from pipeline.text import say


@contextmanager
def system_metrics(run_id: str, log: Callable[[dict[str, float], int], None]) -> Iterator[None]:
    """Measure while inside, by MLflow's monitors, if MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING is true.

    Args:
        run_id: of the run.
        log: is called in a thread, with metrics and a step; it does not wait for the store.
    """
    if not MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get():
        yield
        return
    if find_spec("psutil") is None:
        say("tracking: no system metrics, because psutil is not installed; run: pip install psutil")
        yield
        return
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    class Monitor(SystemMetricsMonitor):
        """MLflow's, but it neither asks the store, nor stops when that is away."""

        def monitor(self) -> None:
            while not self._shutdown_event.is_set():
                for _ in range(self.samples_before_logging):
                    self.collect_metrics()
                    self._shutdown_event.wait(self.sampling_interval)
                self.publish_metrics(self.aggregate_metrics())

        def publish_metrics(self, metrics: dict[str, float]) -> None:
            prefix = self._metrics_prefix + (f"{self.node_id}/" if self.node_id else "")
            log({prefix + name: value for name, value in metrics.items()}, self._logging_step)
            self._logging_step += 1
            for monitor in self.monitors:
                monitor.clear_metrics()

    logging.getLogger("mlflow.system_metrics").setLevel(logging.WARNING)  # tells when it starts and stops
    monitor = Monitor(run_id, resume_logging=True)
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()
