"""Config files: YAML with other defaults for the command line. Those in `presets/` are called by their names.

`config.json`, which every run stores, is one too: it repeats the run.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection
from pathlib import Path

from pipeline.errors import PipelineError

_FOLDER = Path(__file__).parent / "presets"
PRESETS = tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def read_config_file(name: str, known: Collection[str]) -> dict[str, str]:
    """The values in a config file, as the texts that the command line would take.

    Args:
        name: one of `PRESETS`, or the path of a YAML or JSON file.
        known: the options that it may give, with underscores; the file may write hyphens.

    Raises:
        PipelineError: the file cannot be read, or holds anything other than `option: value`.
    """
    import yaml

    path = _FOLDER / f"{name}.yaml" if name in PRESETS else Path(name)
    try:
        # All values as they are written: YAML would make 62 of `1:2`, and a text of `1e-3`.
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        presets = ", ".join(PRESETS)
        raise PipelineError(f"'{name}' cannot be read: {reason}; allowed: a file, or a preset: {presets}") from error
    except RecursionError as error:
        raise PipelineError(f"'{name}' is nested too deeply; it must hold lines such as 'epochs: 5'") from error
    except yaml.YAMLError as error:
        raise PipelineError(f"'{name}' is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise PipelineError(f"'{name}' is not a list of options; it must hold lines such as 'epochs: 5'")
    values = {str(key).replace("-", "_"): value for key, value in content.items()}
    for key, value in values.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1, cutoff=0)[0]
            raise PipelineError(f"'{name}' has an unknown option '{key}'; did you mean '{near}'?")
        if not isinstance(value, str):
            raise PipelineError(f"'{name}' has several values for {key}; it must be one number or text")
    return values
