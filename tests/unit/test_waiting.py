"""Waiting: the scheduling policy of the thread that calls a model, while it does and after."""

from __future__ import annotations

import os

import pytest

from dlas.runtime.waiting import Waiting

pytestmark = pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="the policy is Linux's")


def policy() -> int:
    return os.sched_getscheduler(0)


def test_the_policy_is_batch_while_it_is_entered() -> None:
    assert policy() == os.SCHED_OTHER
    with Waiting():
        assert policy() == os.SCHED_BATCH
        with Waiting():  # a call from within a call
            assert policy() == os.SCHED_BATCH
        assert policy() == os.SCHED_BATCH
    assert policy() == os.SCHED_OTHER


def test_an_error_leaves_the_policy_as_it_was() -> None:
    with pytest.raises(ValueError, match="inside"), Waiting():
        raise ValueError("inside")
    assert policy() == os.SCHED_OTHER


def test_a_policy_of_the_users_stays() -> None:
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    try:
        with Waiting():
            assert policy() == os.SCHED_BATCH
        assert policy() == os.SCHED_BATCH
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def test_where_it_may_not_be_set_nothing_happens_and_it_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def refuse(*arguments: object) -> None:
        calls.append(arguments)
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    monkeypatch.setattr(Waiting, "_denied", False)
    for _ in range(2):
        with Waiting():
            assert policy() == os.SCHED_OTHER
    assert len(calls) == 1
