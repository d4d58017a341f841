"""Cells of time and kind: grouped, joined and chosen, whatever way is the quicker one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from costspan_dashboards.alerts.frame import Cells, Ints, Names, groups

COLUMNS = st.integers(1, 40).flatmap(
    lambda rows: st.lists(
        st.lists(st.integers(0, 3), min_size=rows, max_size=rows), min_size=1, max_size=3
    )
)


@given(COLUMNS, st.sampled_from([1, 10**7]))
def test_groups_are_the_equal_rows_in_their_order_however_far_apart_values_are(
    values: list[list[int]], apart: int
) -> None:
    member, group = groups([np.array(column, np.int64) * apart for column in values])
    rows = list(zip(*values, strict=True))
    kinds = sorted(set(rows))
    assert [rows[one] for one in member.tolist()] == kinds
    assert member.tolist() == [rows.index(kind) for kind in kinds]
    assert group.tolist() == [kinds.index(row) for row in rows]


def test_no_rows_are_no_groups() -> None:
    member, group = groups([np.zeros(0, np.int64)])
    assert (len(member), len(group)) == (0, 0)


def made(names: Names, *minutes: int) -> Cells:
    figures: dict[str, Ints] = {"calls": np.array(minutes) * 10}
    return Cells.of(names, np.array(minutes, np.int64), {}, figures)


def test_joined_cells_are_in_the_order_of_time_and_no_cell_is_lost() -> None:
    names = Names()
    parts = [made(names, 5, 9), made(names), made(names, 1, 9), made(names, 12)]
    for some in (parts, parts[::-1], parts[3:], parts[1:2]):
        joined = Cells.joined(some)
        expected = sorted(minute for part in some for minute in part.minute.tolist())
        assert joined.minute.tolist() == expected
        assert joined.count("calls").tolist() == [minute * 10 for minute in expected]


def test_cells_are_chosen_by_a_mask_or_by_their_places() -> None:
    cells = made(Names(), 1, 2, 3)
    for chosen in (np.array([True, False, True]), np.array([0, 2])):
        assert cells.where(chosen).count("calls").tolist() == [10, 30]
