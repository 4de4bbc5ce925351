"""The training curve as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

PANELS = (
    ("loss (nats a token)", {"loss": "training", "validation_loss": "validation"}),
    (
        "tokens predicted",
        {
            "command_accuracy": "commands",
            "terminal_accuracy": "terminals",
            "validation_command_accuracy": "commands, validation",
            "validation_terminal_accuracy": "terminals, validation",
        },
    ),
    ("success", {"validation_success": "in worlds"}),
    ("would end", {"validation_too_early": "too early", "validation_too_late": "too late"}),
    ("learning rate", {"learning_rate": "learning rate"}),
)


def series(curve: Sequence[Mapping[str, Any]], key: str) -> tuple[list[int], list[float]]:
    """One line of the picture.

    Args:
        curve: The run's records.
        key: The number wanted.

    Returns:
        The steps that have it, and its values.
    """
    found = [(entry["step"], entry[key]) for entry in curve if entry.get(key) is not None]
    return [step for step, _ in found], [value for _, value in found]


def draw_curve(curve: Sequence[Mapping[str, Any]], title: str, file: Path) -> None:
    """Draw a run: loss, accuracy on commands and on terminals, ends too early and too late, learning rate.

    Args:
        curve: The run's records, as `curve.jsonl` holds them.
        title: Stands above.
        file: The PNG to write.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    panels = [(name, lines) for name, lines in PANELS if any(series(curve, key)[0] for key in lines)]
    figure = Figure(figsize=(9, 2.4 * len(panels)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (name, lines) in zip(axes, panels, strict=True):
        for key, label in lines.items():
            steps, values = series(curve, key)
            if steps:
                marker = "o" if key.startswith("validation") else None
                axis.plot(steps, values, label=label, marker=marker, markersize=3, linewidth=1.2)
        axis.set_ylabel(name)
        axis.grid(visible=True, alpha=0.3)
        if len(lines) > 1:
            axis.legend(fontsize="small", frameon=False)
    axes[0].set_title(title)
    axes[-1].set_xlabel("step")
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.savefig(file, dpi=110, metadata={"Software": None})
