"""Define the command that checks a study."""

from __future__ import annotations

from pathlib import Path

from acdc.errors import InputError


def check(*config: Path) -> None:
    """Check a study's config without running anything, and print the study's size.

    For a file that is no YAML it prints the file and the line, which Snakemake does not. Run it in the repository.

    Try:
      python -m acdc check workflow/config/test.yaml

    Args:
        config: files over workflow/config/default.yaml, as --configfile gives them to Snakemake
    """
    try:
        from acdc.config import SCHEMA, read_configs
    except ModuleNotFoundError as error:  # an installed package has it only with the extra `workflow`
        raise InputError(
            f"check needs the package {error.name}: in a checkout of acdc, run pip install '.[workflow]'"
        ) from None
    from acdc.study import Study

    root = Path.cwd()
    if not (root / SCHEMA).exists():
        raise InputError(
            f"{root} is no checkout of acdc, for it has no {SCHEMA}: change into the one that the study is in"
        )
    study = Study(read_configs(config, root), root)
    print(
        f"study {study.name}: {len(study.models)} models, {len(study.tasks)} tasks, {len(study.searches)} searches, "
        f"{len(study.all_circuits())} files of circuits; nothing is wrong with its config"
    )
