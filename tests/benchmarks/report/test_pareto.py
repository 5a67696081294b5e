from random import Random

from benchmarks.report.pareto import front


def beaten(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return b[0] <= a[0] and b[1] >= a[1] and b != a


def test_the_front_is_what_nothing_beats() -> None:
    random = Random(5)
    for _ in range(300):
        points = [
            (float(random.randint(0, 6)), float(random.randint(0, 6))) for _ in range(random.randint(0, 9))
        ]
        expected = {i for i, a in enumerate(points) if not any(beaten(a, b) for b in points)}
        found = front(points)
        assert set(found) == expected
        assert [points[i][0] for i in found] == sorted(points[i][0] for i in found)


def test_equals_stand_together() -> None:
    assert front([(1, 5), (2, 4), (1, 5)]) == [0, 2]
