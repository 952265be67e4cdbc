"""Steps as declarations."""

import pytest

from twin.conformance.catalogue import catalogue
from twin.scenarios.playing import STEPS
from twin.scenarios.steps import LAYERS_OF_FAMILIES


@pytest.mark.requirement("SGAM-1")
def test_every_step_carries_its_layers() -> None:
    assert len(STEPS) > 20
    for step in STEPS.values():
        assert 1 <= step.layers.osi <= 7, step.name
        assert step.layers.sgam, step.name
        assert step.layers.unece, step.name


@pytest.mark.requirement("SGAM-1")
def test_every_family_of_the_catalogue_has_layers() -> None:
    for identifier in catalogue():
        family = identifier.partition(".")[0]
        assert family in LAYERS_OF_FAMILIES or family.rpartition("-")[0] in LAYERS_OF_FAMILIES, identifier
