"""What a broker was told arrives once, in order, with its quality, whatever breaks in between."""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from collected import collecting
from cryptography.hazmat.primitives.serialization import Encoding
from live_broker import OPEN, SAVES_AT_ONCE, Broker, device, publish_all, stamped, topic_plant
from made_certificates import Pair, authority, revocation_list, server_pair
from one_tank import NOON, free_port, until

from connectors import mqtt
from connectors.mqtt import MqttSession
from connectors.progress import SourceState
from connectors.security import Access, Secrets, TrustStore
from connectors.security.certificates import fingerprint
from twin.clock import PlantClock
from twin.errors import EndpointUnavailable, NodeFault, SecurityFault, UsageError
from twin.historian import Historian
from twin.plant import MqttSource, Plant
from twin.records import GOOD, UNCERTAIN, Mark, Reading

pytestmark = pytest.mark.mosquitto


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path / "broker") as each:
        yield each


class Heard:
    """What a session told, in its order."""

    def __init__(self) -> None:
        self.readings: list[Reading] = []
        self.missed: list[str] = []
        self.misdated: list[str] = []
        self.wrong: list[tuple[str, str]] = []
        self.session: MqttSession

    def values(self, tag: str) -> list[float | None]:
        return [each.value for each in self.readings if each.tag == tag]


@asynccontextmanager
async def hearing(
    plant: Plant,
    folder: Path,
    heard: Heard | None = None,
    kept: asyncio.Future[None] | None = None,
    environment: dict[str, str] | None = None,
    **options: object,
) -> AsyncIterator[Heard]:
    """A session of the plant's broker at a wall clock that shows one past noon."""
    heard = heard or Heard()
    source = plant.sources[0]
    assert isinstance(source, MqttSource)
    access = Access(folder / "pki", Secrets(folder / "secrets.yaml", environment or {}))

    def take(readings: list[Reading]) -> asyncio.Future[None] | None:
        heard.readings += readings
        return kept

    async with MqttSession(
        plant,
        source,
        access=access,
        on_misdated=lambda tag, _stamp, _latest: heard.misdated.append(tag),
        on_wrong=lambda tag, message: heard.wrong.append((tag, message)),
        **{"wall_now": lambda: NOON + timedelta(hours=1), **options},  # type: ignore[arg-type]  # options are for every keyword
    ) as heard.session:
        await heard.session.subscribe(
            take, on_missed=lambda reason, _tags: heard.missed.append(reason)
        )
        yield heard


def test_what_is_published_comes_once_in_order_with_its_time(
    broker: Broker, tmp_path: Path
) -> None:
    """A hundred dated values of one topic and a key of another."""
    plant = topic_plant(broker.port, {"a": "plant/a", "b": "plant/many#b.c"})

    async def story() -> None:
        async with hearing(plant, tmp_path) as heard:
            sent = [stamped(n, seconds=n, quality="good") for n in range(100)]
            await publish_all(broker.port, "plant/a", sent)
            await publish_all(broker.port, "plant/many", ['{"b": {"c": 7}, "ts": 1767614400}'])
            await until(lambda: len(heard.readings) == 101, "every value")
        assert heard.values("a") == list(range(100))
        assert {r.marks for r in heard.readings} == {Mark.NONE}
        times = [r.source_time for r in heard.readings if r.tag == "a"]
        assert times == [NOON + timedelta(seconds=n) for n in range(100)]
        [other] = [r for r in heard.readings if r.tag == "b"]
        assert (other.value, other.quality, other.source_time) == (7.0, GOOD, NOON)

    asyncio.run(story())


def test_a_value_without_a_time_is_dated_by_its_arrival(broker: Broker, tmp_path: Path) -> None:
    """Live ones are good and say that nobody dated them; none hides another."""
    plant = topic_plant(broker.port, {"a": "a"})

    async def story() -> None:
        async with hearing(plant, tmp_path) as heard:
            await publish_all(broker.port, "a", ["1", "2", "3"])
            await until(lambda: len(heard.readings) == 3, "every value")
        assert heard.values("a") == [1.0, 2.0, 3.0]
        assert {(r.quality, r.marks) for r in heard.readings} == {(GOOD, Mark.UNDATED)}
        assert len({r.source_time for r in heard.readings}) == 3
        assert all(r.source_time >= NOON + timedelta(hours=1) for r in heard.readings)

    asyncio.run(story())


def test_a_retained_value_is_of_the_past(broker: Broker, tmp_path: Path) -> None:
    """With a time it is as old as it says; without one nobody knows, so it is doubtful."""
    plant = topic_plant(broker.port, {"a": "a", "b": "b"})

    async def story() -> None:
        async with device(broker.port) as gauge:
            await gauge.publish("a", stamped(5), qos=1, retain=True)
            await gauge.publish("b", "6", qos=1, retain=True)
        async with hearing(plant, tmp_path) as heard:
            await until(lambda: len(heard.readings) == 2, "both retained values")
        dated, undated = sorted(heard.readings, key=lambda r: r.tag)
        assert (dated.value, dated.quality, dated.source_time) == (5.0, GOOD, NOON)
        assert dated.marks == Mark.BACKFILLED
        assert (undated.value, undated.quality) == (6.0, UNCERTAIN)
        assert undated.marks == Mark.BACKFILLED | Mark.UNDATED

    asyncio.run(story())


def test_what_was_sent_while_we_were_away_waits_for_us(broker: Broker, tmp_path: Path) -> None:
    """Dated values come as they are; undated ones are doubtful: they waited long, or not."""
    plant = topic_plant(broker.port, {"a": "a", "b": "b"})

    async def story() -> None:
        async with hearing(plant, tmp_path):
            pass
        await publish_all(broker.port, "a", [stamped(n, seconds=n) for n in range(500)])
        await publish_all(broker.port, "b", ["1"])
        async with hearing(plant, tmp_path) as heard:
            await until(lambda: len(heard.readings) == 501, "what waited")
            await publish_all(broker.port, "b", ["2"])
            await until(lambda: len(heard.readings) == 502, "a live value")
        assert heard.values("a") == list(range(500))
        waited, live = [r for r in heard.readings if r.tag == "b"]
        assert (waited.quality, live.quality) == (UNCERTAIN, GOOD)

    asyncio.run(story())


def test_a_long_queue_is_no_silent_broker(broker: Broker, tmp_path: Path) -> None:
    """The broker answers a subscription behind all that waited; while that comes, we wait."""
    plant = topic_plant(broker.port, {"a": "a"})

    async def story() -> None:
        async with hearing(plant, tmp_path):
            pass
        for first in range(0, 12_000, 2_000):
            sent = [stamped(n, seconds=n / 4) for n in range(first, first + 2_000)]
            await publish_all(broker.port, "a", sent)
        async with hearing(plant, tmp_path, request_timeout_s=2.5) as heard:
            await until(lambda: len(heard.readings) >= 12_000, "what waited", 60)
        assert len({r.value for r in heard.readings}) == 12_000

    asyncio.run(story())


def test_what_was_not_safe_comes_again(broker: Broker, tmp_path: Path) -> None:
    """We die with values in our hands: the broker was never told that we have them."""
    plant = topic_plant(broker.port, {"a": "a"})

    async def story() -> None:
        never = asyncio.get_running_loop().create_future()
        async with hearing(plant, tmp_path, kept=never) as first:
            await publish_all(broker.port, "a", [stamped(n, seconds=n) for n in range(50)])
            await until(lambda: len(first.readings) == 50, "every value")
        async with hearing(plant, tmp_path) as again:
            await until(lambda: len(again.readings) == 50, "every value again")
        assert again.values("a") == list(range(50))

    asyncio.run(story())


def test_what_was_safe_does_not_come_for_ever(broker: Broker, tmp_path: Path) -> None:
    """Once the broker has heard that we have them, it sends nothing twice.

    It may miss that when the connection ends at that moment; then it is told again.
    """
    plant = topic_plant(broker.port, {"a": "a"})

    async def story() -> None:
        brought = [0]
        for number in range(20):
            async with hearing(plant, tmp_path) as heard:
                await publish_all(broker.port, "a", [stamped(number, seconds=number)])
                await until(lambda: number in heard.values("a"), "the live value")  # noqa: B023  # called at once
            brought.append(len(heard.readings))
            if brought[-2:] == [1, 1]:
                return
        raise AssertionError(f"values came again and again: {brought}")

    asyncio.run(story())


def test_a_broker_that_is_killed_brings_what_it_had_taken(tmp_path: Path) -> None:
    """kill -9 of the broker: told as lost, and what it held for us comes after its restart."""
    with Broker(tmp_path / "saving", (OPEN, *SAVES_AT_ONCE)) as broker:
        plant = topic_plant(broker.port, {"a": "a"})

        async def story() -> None:
            async with hearing(plant, tmp_path):
                pass
            await publish_all(broker.port, "a", [stamped(n, seconds=n) for n in range(50)])
            saved = broker.folder / "mosquitto.db"
            await until(lambda: saved.read_bytes().count(b'"value"') == 50, "the broker's file")
            broker.kill()
            broker.start()
            async with hearing(plant, tmp_path) as first:
                await until(lambda: len(first.readings) == 50, "every value")
                lost = asyncio.create_task(first.session.until_lost())
                broker.kill()
                assert await asyncio.wait_for(lost, 20)
            broker.start()
            async with hearing(plant, tmp_path) as again:
                await publish_all(broker.port, "a", [stamped(50, seconds=50)])
                await until(lambda: 50.0 in again.values("a"), "a live value")
            seen = {(r.tag, r.source_time, r.value) for r in [*first.readings, *again.readings]}
            assert len(seen) == 51

        asyncio.run(story())


def test_a_broker_that_hangs_is_found_out(broker: Broker, tmp_path: Path) -> None:
    """SIGSTOP: the connection stands and nothing answers; a ping says so within seconds."""
    plant = topic_plant(broker.port, {"a": "a"})

    async def story() -> None:
        async with hearing(plant, tmp_path) as heard:
            broker.signal(signal.SIGSTOP)
            try:
                assert await asyncio.wait_for(heard.session.until_lost(), 30)
            finally:
                broker.signal(signal.SIGCONT)

    asyncio.run(story())


@pytest.mark.parametrize(
    "payload",
    [b"", b"{", b"ON", b"NaN", b"\xff", b"[" * 100_000, b'{"value": "5"}', b"1" * 2_000_000],
)
def test_a_wrong_payload_is_a_bad_reading_and_stops_nothing(
    payload: bytes, broker: Broker, tmp_path: Path
) -> None:
    """Whatever a device sends, the next value comes; what is wrong is told."""
    plant = topic_plant(broker.port, {"a": "a"})

    async def story() -> None:
        async with hearing(plant, tmp_path) as heard:
            await publish_all(broker.port, "a", [payload])
            await publish_all(broker.port, "a", ["5"])
            await until(lambda: len(heard.readings) == 2, "both")
        bad, good = heard.readings
        assert bad.value is None
        assert bad.quality >> 30 == 2
        assert good.value == 5.0
        [(tag, message)] = heard.wrong
        assert tag == "a"
        assert message.startswith("topic a: ")
        assert message.endswith("; its value is not used. Mend what its device sends.")

    asyncio.run(story())


def test_a_time_that_cannot_be_true_yet_moves_nothing(broker: Broker, tmp_path: Path) -> None:
    """A device whose clock is a day ahead: no value, told, and the plant's time stays."""
    plant = topic_plant(broker.port, {"a": "a"})

    async def story() -> None:
        async with hearing(plant, tmp_path) as heard:
            await publish_all(broker.port, "a", [stamped(5, seconds=86_400)])
            await until(lambda: bool(heard.readings), "the reading")
            assert heard.session.clock.now() < NOON + timedelta(hours=2)
        [only] = heard.readings
        assert (only.value, only.is_good) == (None, False)
        assert heard.misdated == ["a"]

    asyncio.run(story())


def test_a_late_value_moves_no_clock(broker: Broker, tmp_path: Path) -> None:
    """A laboratory's sample four hours old keeps its time; the plant's time goes on."""
    plant = topic_plant(broker.port, {"a": "a"})

    async def story() -> None:
        async with hearing(plant, tmp_path) as heard:
            before = heard.session.clock.now()
            await publish_all(broker.port, "a", [stamped(5, seconds=-3 * 3600)])
            await until(lambda: bool(heard.readings), "the sample")
            assert heard.session.clock.now() >= before
        [sample] = heard.readings
        assert sample.source_time == NOON - timedelta(hours=3)
        assert sample.arrival_time >= NOON + timedelta(hours=1)

    asyncio.run(story())


def test_a_queue_that_ended_early_is_told(tmp_path: Path) -> None:
    """The broker keeps ten messages for us and drops the rest in silence: we say that."""
    limits = (OPEN, "max_queued_messages 10")
    with Broker(tmp_path / "small", limits) as broker:
        plant = topic_plant(broker.port, {"a": "a"})

        async def story() -> None:
            async with hearing(plant, tmp_path):
                pass
            await publish_all(broker.port, "a", [stamped(n, seconds=n) for n in range(100)])
            async with hearing(plant, tmp_path) as heard:
                await until(lambda: bool(heard.readings), "what waited")
                await publish_all(broker.port, "a", [stamped(100, seconds=100)])
                await until(lambda: 100.0 in heard.values("a"), "a live value")
            assert len(heard.readings) < 50
            assert len(heard.missed) == 1

        asyncio.run(story())


def test_a_queue_that_ends_while_there_is_no_room_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readings are refused, and over the same connection the broker drops what it cannot queue."""
    monkeypatch.setattr(mqtt, "_UNACKNOWLEDGED", 20)  # 65,535 messages take a while
    heard, refused, has_room = Heard(), Heard(), True

    def take(readings: list[Reading]) -> asyncio.Future[None]:
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        (heard if has_room else refused).readings += readings
        if has_room:
            kept.set_result(None)
        else:
            kept.cancel()
        return kept

    def missed(_reason: str, _tags: Sequence[str]) -> None:
        heard.missed.append(f"after {heard.values('a')[-1]:g}")

    async def story() -> None:
        nonlocal has_room
        with Broker(tmp_path / "small", (OPEN, "max_queued_messages 10")) as broker:
            plant = topic_plant(broker.port, {"a": "a"})
            source = plant.sources[0]
            assert isinstance(source, MqttSource)
            clock = PlantClock(NOON + timedelta(hours=1))
            async with MqttSession(plant, source, clock=clock) as session:
                await session.subscribe(take, on_missed=missed)
                await publish_all(broker.port, "a", [stamped(n, seconds=n) for n in range(5)])
                await until(lambda: len(heard.readings) == 5, "the first")
                has_room = False
                await publish_all(broker.port, "a", [stamped(n, seconds=n) for n in range(5, 200)])
                await until(lambda: bool(refused.readings), "no room")
                has_room = True
                await until(lambda: len(heard.readings) > 25, "what waited")
                await publish_all(broker.port, "a", [stamped(200, seconds=200)])
                await until(lambda: 200.0 in heard.values("a"), "a live value")

    asyncio.run(story())
    values = [value for value in heard.values("a") if value is not None]
    assert heard.missed == [f"after {values[-2]:g}"]
    assert values == [*range(round(values[-2]) + 1), 200]


def test_what_no_broker_holds_back_fills_no_memory(broker: Broker, tmp_path: Path) -> None:
    """No room here, and a device that sends at QoS 0: the link ends, and its gap is told."""
    plant = topic_plant(broker.port, {"a": "a"})

    async def story() -> str:
        refused = asyncio.get_running_loop().create_future()
        refused.cancel()
        async with hearing(plant, tmp_path, kept=refused, most_waiting=100) as heard:
            lost = asyncio.create_task(heard.session.until_lost())
            async with device(broker.port) as gauge:
                while not lost.done():
                    await gauge.publish("a", stamped(1.0), qos=0)
            return lost.result()

    assert "no room here" in asyncio.run(asyncio.wait_for(story(), 20))


def test_an_earlier_plant_files_topics_are_given_up(broker: Broker, tmp_path: Path) -> None:
    """A tag moved to another topic: what comes on the old one is left, and asked for no more."""

    async def story() -> None:
        async with hearing(topic_plant(broker.port, {"a": "old"}), tmp_path):
            pass
        async with hearing(topic_plant(broker.port, {"a": "new"}), tmp_path) as heard:
            await publish_all(broker.port, "old", ["1"])
            await publish_all(broker.port, "new", ["2"])
            await until(lambda: bool(heard.readings), "the new topic's value")
        assert heard.values("a") == [2.0]

    asyncio.run(story())


def test_a_password_comes_from_the_environment(tmp_path: Path) -> None:
    """A wrong one is told, and never shown."""
    words = tmp_path / "words"
    words.write_text("ada:s3cret\n")
    subprocess.run(["mosquitto_passwd", "-U", str(words)], check=True)
    with Broker(tmp_path / "locked", ("allow_anonymous false", f"password_file {words}")) as broker:
        plant = topic_plant(broker.port, {"a": "a"}, login="password")
        told = {"PLANTWRIGHT_GATEWAY_USER": "ada", "PLANTWRIGHT_GATEWAY_PASSWORD": "s3cret"}

        async def story() -> None:
            async with hearing(plant, tmp_path, environment=told) as heard:
                async with device(broker.port, username="ada", password="s3cret") as gauge:
                    await gauge.publish("a", "5", qos=1)
                await until(lambda: bool(heard.readings), "a value")
            wrong = told | {"PLANTWRIGHT_GATEWAY_PASSWORD": "guess-me"}
            with pytest.raises(SecurityFault, match="let in the user 'ada'") as fault:
                async with hearing(plant, tmp_path, environment=wrong):
                    pass
            assert "guess-me" not in str(fault.value)

        asyncio.run(story())


def trusting(folder: Path, *authorities: Pair) -> None:
    """Put authorities into the trust store of whoever connects."""
    issuers = folder / "pki" / "issuers"
    issuers.mkdir(parents=True)
    for number, each in enumerate(authorities):
        (issuers / f"{number}.der").write_bytes(each.der)


def locked_by(shown: Pair, folder: Path) -> tuple[str, ...]:
    """A broker's lines for TLS with that certificate."""
    folder.mkdir(exist_ok=True)
    (folder / "shown.pem").write_bytes(shown.certificate.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(shown.key_pem)
    return (OPEN, f"certfile {folder}/shown.pem", f"keyfile {folder}/key.pem")


def test_an_encrypted_broker_is_trusted_by_its_authority(tmp_path: Path) -> None:
    """mqtts:// with the works' own authority in the trust store; soon expired is told."""
    works = authority()
    shown = server_pair(issuer=works, ends=timedelta(days=20))
    trusting(tmp_path, works)
    with Broker(tmp_path / "tls", locked_by(shown, tmp_path / "tls")) as broker:
        plant = topic_plant(
            broker.port, {"a": "a"}, broker=f"mqtts://127.0.0.1:{broker.port}", name="gateway"
        )

        async def story() -> None:
            now = datetime.now(UTC)
            async with hearing(plant, tmp_path, wall_now=lambda: now) as heard:
                assert "expires in" in heard.session.security_warning
                trust = ssl.create_default_context(cadata=works_pem(works))
                async with device(broker.port, tls_context=trust) as gauge:
                    await gauge.publish("a", "5", qos=1)
                await until(lambda: bool(heard.readings), "a value")

        asyncio.run(story())


@pytest.mark.parametrize(
    ("shown", "remedy"),
    [
        (lambda _works: server_pair(), "the folder pki/issuers"),
        (lambda works: server_pair(issuer=works, ends=timedelta(days=-0.5)), "issued again"),
        (lambda works: server_pair(issuer=works, hosts=["elsewhere"]), "made out for the host"),
    ],
    ids=["nobody's authority", "expired", "another machine's"],
)
def test_a_broker_that_cannot_prove_itself_is_refused(
    remedy: str, shown: Callable[[Pair], Pair], tmp_path: Path
) -> None:
    """Untrusted, expired or made out for another host: nothing is sent, and what helps is said."""
    works = authority()
    trusting(tmp_path, works)
    with Broker(tmp_path / "tls", locked_by(shown(works), tmp_path / "tls")) as broker:
        plant = topic_plant(
            broker.port, {"a": "a"}, broker=f"mqtts://127.0.0.1:{broker.port}", name="gateway"
        )

        async def story() -> None:
            async with hearing(plant, tmp_path):
                pass

        with pytest.raises(SecurityFault, match=f"certificate will not do .*{remedy}"):
            asyncio.run(story())


def revoke_authority(pki: Path, works: Pair, _shown: Pair) -> None:
    TrustStore(pki).revoke(fingerprint(works.certificate))


def revoke_certificate(pki: Path, _works: Pair, shown: Pair) -> None:
    (pki / "revoked").mkdir()
    (pki / "revoked" / "broker.der").write_bytes(shown.der)


def list_as_revoked(pki: Path, works: Pair, shown: Pair) -> None:
    (pki / "issuers" / "crl").mkdir()
    (pki / "issuers" / "crl" / "works.der").write_bytes(revocation_list(works, shown))


@pytest.mark.parametrize("revoke", [revoke_authority, revoke_certificate, list_as_revoked])
def test_a_broker_that_is_revoked_is_trusted_no_more(
    revoke: Callable[[Path, Pair, Pair], None], tmp_path: Path
) -> None:
    """It, or its authority: a link that stands ends, and nothing is sent over another one."""
    works = authority()
    trusting(tmp_path, works)
    shown = server_pair(issuer=works)
    with Broker(tmp_path / "tls", locked_by(shown, tmp_path / "tls")) as broker:
        plant = topic_plant(
            broker.port, {"a": "a"}, broker=f"mqtts://127.0.0.1:{broker.port}", name="gateway"
        )

        async def story() -> None:
            async with hearing(plant, tmp_path, wall_now=lambda: datetime.now(UTC)) as heard:
                lost = asyncio.create_task(heard.session.until_lost())
                revoke(tmp_path / "pki", works, shown)
                assert "is trusted no more" in await asyncio.wait_for(lost, 20)
            with pytest.raises(SecurityFault, match=r"will not do|was revoked|has revoked"):
                async with hearing(plant, tmp_path):
                    pass

        asyncio.run(story())


def test_a_trust_store_that_cannot_be_read_is_told_also_while_nothing_comes(
    tmp_path: Path,
) -> None:
    """A link that stands without data keeps its warnings: trust cannot be told any more."""
    works = authority()
    trusting(tmp_path, works)
    with Broker(tmp_path / "tls", locked_by(server_pair(issuer=works), tmp_path / "tls")) as broker:
        plant = topic_plant(broker.port, {"a": "a"}, broker=f"mqtts://127.0.0.1:{broker.port}")
        access = Access(tmp_path / "pki", Secrets(tmp_path / "secrets.yaml", {}))

        async def story(historian: Historian) -> None:
            async with collecting(plant, historian, once_linked=True, access=access) as told:
                (tmp_path / "pki" / "issuers" / "rubbish.der").write_bytes(b"rubbish")
                await until(lambda: "rubbish.der" in told[-1].sources[0].security, "the warning")
                assert told[-1].sources[0].state is SourceState.FROZEN

        with Historian.create(tmp_path / "plant.db") as historian:
            asyncio.run(story(historian))


def works_pem(works: Pair) -> str:
    return works.certificate.public_bytes(Encoding.PEM).decode()


def test_without_the_library_it_is_said_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plant with an MQTT source on a machine without aiomqtt: the command that helps."""
    monkeypatch.setitem(sys.modules, "aiomqtt", None)
    plant = topic_plant(free_port(), {"a": "a"})

    async def story() -> None:
        async with hearing(plant, tmp_path):
            pass

    with pytest.raises(UsageError, match=r"plantwright\[mqtt\]"):
        asyncio.run(story())


def test_topics_that_the_broker_refuses_are_named(tmp_path: Path) -> None:
    """At the first connection the refused tag is told; later the others go on without it."""
    rule = {"acltype": "subscribePattern", "topic": "open/#", "allow": True}
    rules = {
        "defaultACLAccess": dict.fromkeys(("publishClientSend", "publishClientReceive"), True),
        "roles": [{"rolename": "open", "acls": [rule]}],
        "groups": [{"groupname": "all", "roles": [{"rolename": "open"}]}],
        "anonymousGroup": "all",
    }
    file = tmp_path / "rules.json"
    file.write_text(json.dumps(rules))
    [library] = Path("/usr/lib").glob("*/mosquitto_dynamic_security.so")
    plugin = (f"plugin {library}", f"plugin_opt_config_file {file}")
    with Broker(tmp_path / "ruled", (OPEN, *plugin)) as broker:
        plant = topic_plant(broker.port, {"a": "open/a", "b": "closed/b"})

        async def story() -> None:
            with pytest.raises(NodeFault, match="closed/b"):
                async with hearing(plant, tmp_path):
                    pass
            async with hearing(plant, tmp_path, is_strict=False) as heard:
                assert heard.session.faulty == ("b",)
                await publish_all(broker.port, "open/a", ["5"])
                await until(lambda: bool(heard.readings), "the open topic's value")

        asyncio.run(story())


def test_a_broker_that_grants_less_is_told(tmp_path: Path) -> None:
    """QoS 0 only: values come, and that none will wait for us is said."""
    with Broker(tmp_path / "hasty", ("max_qos 0", OPEN)) as broker:
        plant = topic_plant(broker.port, {"a": "a"})

        async def story() -> None:
            async with hearing(plant, tmp_path) as heard:
                async with device(broker.port) as gauge:
                    await gauge.publish("a", "5", qos=0)
                await until(lambda: bool(heard.readings), "a value")
            [(tag, message)] = heard.wrong
            assert tag == "a"
            assert "QoS 0 only" in message

        asyncio.run(story())


def test_two_programs_with_one_client_id_are_told_of_each_other(
    broker: Broker, tmp_path: Path
) -> None:
    """A second one takes the first one's place at the broker: which name to change is said."""
    plant = topic_plant(broker.port, {"a": "a"}, client_id="both")

    async def story() -> None:
        async with hearing(plant, tmp_path) as first, hearing(plant, tmp_path):
            told = await asyncio.wait_for(first.session.until_lost(), 20)
        assert "client 'both': give each a `client_id` of its own" in told

    asyncio.run(story())


def test_nothing_at_the_address_is_told() -> None:
    """No broker there: said with what to check, within the time a request may take."""
    plant = topic_plant(free_port(), {"a": "a"})

    async def story() -> None:
        async with hearing(plant, Path("/nowhere")):
            pass

    with pytest.raises(EndpointUnavailable, match="Check that it runs"):
        asyncio.run(story())
