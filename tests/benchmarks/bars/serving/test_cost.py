"""The bars of what the server costs, from rounds with known figures."""

from benchmarks.bars.serving.cost import Round, cost_of


def _round(call_ms: float, request_ms: float, calls: float, requests: float) -> Round:
    return Round(call_ms, calls, {"http": request_ms, "grpc": 20.0}, {"http": requests, "grpc": 100.0})


def test_the_median_round_decides() -> None:
    # A round that another process disturbed (10 times slower on one side) must not.
    rounds = [_round(10, 14, 100, 90), _round(10, 14, 100, 90), _round(10, 140, 100, 9)]
    http_ms, grpc_ms, http_share, grpc_share = cost_of(rounds)
    assert round(http_ms.measured, 9) == 14 - 1.15 * 10
    assert http_ms.reached
    assert round(grpc_ms.measured, 9) == 20 - 1.15 * 10
    assert not grpc_ms.reached
    assert http_share.measured == 90
    assert http_share.reached
    assert grpc_share.measured == 100


def test_throughput_below_its_share_is_missed() -> None:
    *_, share, _ = cost_of([_round(10, 11, 100, 84.9)])
    assert not share.reached
