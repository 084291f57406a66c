"""The simulation of cells: with small numbers, and the rules that it has to keep."""

from dataclasses import replace

import pytest

from amplifierd.common.program import BASE_DIR
from tests.bench.cells import (
    MOST_CELLS,
    Cell,
    Model,
    Owner,
    Plan,
    Policy,
    assign_cell,
    compute_needs,
    find_cell_capacity,
    main,
    needs_section,
    numbers_section,
    simulate,
    split_owner,
)
from tests.bench.tables import row

SMALL = Model(
    policy=Policy(postgres_cores=1, owners=300, days=20, begin=200, sessions=20_000, ramp_days=3)
)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return simulate(SMALL, seed=7, split=True)


def test_the_same_seed_gives_the_same_days(plan: Plan) -> None:
    assert simulate(SMALL, seed=7, split=True).days == plan.days
    assert simulate(SMALL, seed=8, split=True).days != plan.days


def test_the_last_day_has_the_sessions_that_were_asked_for(plan: Plan) -> None:
    assert 19_000 < plan.days[-1].open < 21_000
    share = plan.days[-1].running / plan.days[-1].open
    assert 0.04 < share < 0.06
    assert plan.days[-1].refused == 0


def test_cells_are_added_as_sessions_come_and_nothing_moves(plan: Plan) -> None:
    counts = [len(day.loads) for day in plan.days]
    assert counts == sorted(counts)
    assert counts[0] == 1
    assert counts[-1] == len(plan.cells) == len(plan.added) + 1 > 3
    for number, cell in enumerate(plan.cells):
        assert {owner.cell for owner in cell.owners} == {number}
        assert min(owner.joined for owner in cell.owners) == cell.opened


def test_the_share_of_a_cell_that_is_down_is_that_of_the_fullest(plan: Plan) -> None:
    last = plan.days[-1]
    assert 1 / len(last.loads) < last.largest < 2.5 / len(last.loads)
    assert plan.days[0].largest == 1.0


def test_an_owner_above_the_limit_is_refused_or_split(plan: Plan) -> None:
    limited = simulate(SMALL, seed=7)
    assert limited.large == plan.large > 0
    assert limited.largest > limited.capacity * SMALL.policy.owner_share
    assert (limited.parts, plan.days[-1].limited) == (0, 0)
    assert plan.parts > 0
    assert limited.days[-1].limited > 0
    assert limited.days[-1].open < plan.days[-1].open


def test_parts_of_an_owner_are_as_large_as_the_limit_at_most() -> None:
    parts = split_owner(Owner(100, joined=3, offset=6), limit=30)
    assert [(part.size, part.joined, part.offset) for part in parts] == [(25, 3, 6)] * 4
    assert len(split_owner(Owner(30, joined=0, offset=0), limit=30)) == 1


def test_a_new_owner_gets_the_least_loaded_cell_or_a_new_one() -> None:
    cells = [Cell(opened=0, booked=50), Cell(opened=0, booked=20)]
    assert assign_cell(Owner(9, 0, 0), cells, full=60, day=1, booked=40) == 1
    assert assign_cell(Owner(9, 0, 0), cells, full=60, day=1, booked=40) == 0
    assert assign_cell(Owner(9, 0, 0), cells, full=60, day=1, booked=40) == 2
    assert [(cell.opened, cell.booked) for cell in cells] == [(0, 90), (0, 60), (1, 40)]


def test_there_are_as_many_cells_as_two_hex_digits_can_say() -> None:
    cells = [Cell(opened=0, booked=60) for _ in range(MOST_CELLS)]
    with pytest.raises(ValueError, match="256 cells"):
        assign_cell(Owner(9, 0, 0), cells, full=60, day=1, booked=40)


def test_a_full_cell_refuses_what_does_not_fit() -> None:
    # Owners who become twenty times as large as what is kept for them.
    tight = replace(SMALL, policy=replace(SMALL.policy, fill=1.0, owner_share=1.0, ramp_days=15))
    plan = simulate(tight, seed=7)
    assert plan.days[-1].refused > 0
    assert all(cell.open <= plan.capacity for cell in plan.cells)


def test_a_cell_carries_what_its_postgresql_does() -> None:
    budget = SMALL.policy.postgres_cores * SMALL.policy.busy
    capacity = find_cell_capacity(SMALL)
    assert compute_needs(capacity, SMALL).postgres <= budget
    assert compute_needs(capacity + 1, SMALL).postgres > budget
    assert find_cell_capacity(SMALL.override("postgres_cores", 4)) > 2 * capacity


def test_needs_follow_from_the_numbers() -> None:
    model = SMALL.override("busy", 0.5).override("worker_ms_per_run", 0)
    needs = compute_needs(10_000, model)
    # One message in 120 s, of which a run takes 6; 100 runs of a worker, half of each core.
    assert (needs.running, needs.workers, needs.tokens) == (500, 10, 25_000)
    assert needs.connections == 19 * needs.web + 10 * needs.workers
    # With next to no work, streams are what counts.
    idle = compute_needs(10_000, model.override("message_seconds", 1e9))
    assert (idle.web, idle.workers) == (4, 1)


def test_numbers_can_be_replaced_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--set", "owners=50", "--set", "days=3", "--set", "sessions=900"]
    main([*small, "--set", "runs_per_worker=77", "--every", "1", "--markdown"])
    shown = capsys.readouterr().out
    assert "| runs_per_worker | 77 |" in shown
    assert shown.count("\n## ") == 2
    with pytest.raises(SystemExit):
        main(["--set", "runs=1"])
    assert "there is no number 'runs'" in capsys.readouterr().err


def test_the_page_has_the_numbers_and_what_follows_from_them() -> None:
    page = (BASE_DIR / "docs/scale.md").read_text()
    for section in (numbers_section(Model()), needs_section(Model())):
        for cells in section.rows:
            assert row(cells) in page
        for note in section.notes:
            assert note in page
