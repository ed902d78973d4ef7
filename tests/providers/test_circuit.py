import pytest

from core.errors import ProviderError
from core.providers.circuit import Circuit


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def circuit(clock):
    return Circuit("ollama:m at http://there", failures=3, seconds=30.0, clock=clock)


def fail(circuit, times, why="refused"):
    return [circuit.failed(why, circuit.enter()) for _ in range(times)]


def is_open(circuit):
    try:
        circuit.check()
    except ProviderError:
        return True
    return False


def test_it_opens_with_the_last_of_so_many_failures_in_a_row(circuit):
    assert fail(circuit, 3) == [False, False, True]
    assert is_open(circuit)


def test_a_success_between_failures_begins_the_row_anew(circuit):
    fail(circuit, 2)
    circuit.enter()
    circuit.succeeded()

    assert fail(circuit, 2) == [False, False]
    assert not is_open(circuit)


def test_the_error_says_since_when_why_and_what_to_do_in_one_line(circuit, clock):
    fail(circuit, 1)
    clock.now += 12
    fail(circuit, 2, why="no Ollama at http://there: start it with `ollama serve`")
    clock.now += 10

    with pytest.raises(ProviderError) as raised:
        circuit.enter()

    assert str(raised.value) == (
        "ollama:m at http://there failed 3 times in a row over the last 22 s, so nothing is sent to it; the next trial is in 20 s. "
        "Mend that, or raise CIRCUIT_FAILURES. The last failure: no Ollama at http://there: start it with `ollama serve`"
    )


def test_after_the_cool_down_one_call_is_the_trial_and_the_others_fail_meanwhile(circuit, clock):
    fail(circuit, 3)
    clock.now += 30

    assert circuit.enter() is True
    with pytest.raises(ProviderError, match="the next trial is under way"):
        circuit.enter()


def test_a_trial_that_succeeds_closes_it(circuit, clock):
    fail(circuit, 3)
    clock.now += 30
    circuit.enter()
    circuit.succeeded()

    assert circuit.enter() is False
    assert fail(circuit, 2) == [False, False]


def test_a_trial_that_fails_opens_it_for_another_cool_down(circuit, clock):
    fail(circuit, 3)
    clock.now += 30

    assert fail(circuit, 1) == [True]
    clock.now += 29
    assert is_open(circuit)
    clock.now += 1
    assert circuit.enter() is True


def test_a_trial_that_is_cancelled_leaves_the_trial_to_the_next(circuit, clock):
    fail(circuit, 3)
    clock.now += 30
    circuit.left(circuit.enter())

    assert circuit.enter() is True


def test_calls_from_before_it_opened_neither_prolong_it_nor_end_the_trial(circuit, clock):
    before = [circuit.enter() for _ in range(3)]
    fail(circuit, 3)
    clock.now += 29
    assert circuit.failed("refused", before[0]) is False
    clock.now += 1
    assert circuit.enter() is True
    circuit.failed("refused", before[1])
    circuit.left(before[2])

    assert is_open(circuit), "the trial is still under way"


def test_a_late_success_closes_it_and_a_trial_that_fails_then_counts_as_any_failure(circuit, clock):
    before = circuit.enter()
    fail(circuit, 3)
    clock.now += 30
    trial = circuit.enter()
    assert before is False
    circuit.succeeded()

    assert circuit.failed("refused", trial) is False
    assert not is_open(circuit)
