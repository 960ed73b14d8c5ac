import asyncio

from footfall.collector.body import BodyStream


def test_parts_are_taken_as_they_arrive() -> None:
    """Those that have arrived together are one; the end is the end of all."""
    taken: list[bytes] = []

    async def main() -> None:
        stream = BodyStream(lambda: None)

        async def take() -> None:
            taken.extend([part async for part in stream.parts()])

        taking = asyncio.ensure_future(take())
        await asyncio.sleep(0)
        stream.add(b"a")
        stream.add(b"b")
        await asyncio.sleep(0)
        stream.add(b"c")
        stream.end()
        await taking

    asyncio.run(main())
    assert [b"ab", b"c"] == taken


def test_it_is_full_until_it_is_taken() -> None:
    """Whoever adds is told when there is room again."""
    told: list[bool] = []

    async def main() -> None:
        stream = BodyStream(lambda: told.append(stream.is_full))
        stream.add(b"x" * 60_000)
        assert not stream.is_full
        stream.add(b"x" * 6_000)
        assert stream.is_full
        assert 66_000 == len(await anext(stream.parts()))

    asyncio.run(main())
    assert [False] == told


def test_an_empty_body_has_no_parts() -> None:
    """And nobody waits for one."""

    async def main() -> None:
        stream = BodyStream(lambda: None)
        stream.end()
        assert [] == [part async for part in stream.parts()]

    asyncio.run(main())
