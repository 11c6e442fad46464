"""A fleet of backends as a discrete-event simulation, fed by measured service times.

Every backend has an event loop, which takes in one request at a time, and an engine,
which makes one step after the other for all requests that it has: the same schedule as
the real one. Both need a core. Times are seconds.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Generator, Sequence
from typing import Any

import attrs
import simpy

from tabwise_server.capacity.typists import Answer, Typing

PREFILL_CHUNK = 128  # ServeSettings.prefill_chunk

Process = Generator[simpy.Event, Any, None]


@attrs.frozen(kw_only=True)
class ServiceTimes:
    """CPU seconds of a backend, and what requests are like.

    cold_tokens: of a prompt that no cache knows; warm_tokens: of a keystroke's prompt
    that must be computed all the same. new_tokens: generated, one sample a request.
    client: what asking costs where the load is made. slots: documents that a backend's
    cache holds.
    """

    request: float
    step: float
    prompt_token: float
    new_token: float
    client: float
    cold_tokens: int
    warm_tokens: float
    new_tokens: Sequence[int]
    slots: int


@attrs.frozen(kw_only=True)
class Fleet:
    """cores: of all backends together where `shared`, with the load on the same ones;
    else of each backend. affinity: a document's requests meet the same backend.
    waits: on the way, for other than the fleet's work; one is drawn for each request.
    stretches: real seconds per CPU second on a machine with other work; one is drawn
    for each piece of computing.
    """

    backends: int
    cores: int
    shared: bool = False
    affinity: bool = True
    waits: Sequence[float] = (0.0,)
    stretches: Sequence[float] = (1.0,)


def simulate(times: ServiceTimes, fleet: Fleet, typing: Typing) -> list[Answer]:
    """What `typists.type_all` would report of such a fleet."""
    world = _World(times, fleet, typing)
    for user in range(typing.users):
        world.env.process(world.user(user))
    world.env.run()
    return sorted(world.answers, key=lambda one: one.at)


@attrs.define
class _Sequence:
    """One request in an engine: what is left to do, and who waits for it."""

    prompt: float
    new: int
    done: simpy.Event


class _Backend:
    """An event loop and an engine."""

    def __init__(self, world: _World, cores: simpy.Resource) -> None:
        self.world = world
        self.cores = cores
        self.loop = simpy.Resource(world.env, capacity=1)
        self.sequences: list[_Sequence] = []
        self.known: OrderedDict[int, None] = OrderedDict()  # users, oldest first
        self.wake = world.env.event()
        world.env.process(self.engine())

    def uncached(self, user: int) -> float:
        """Prompt tokens to compute for `user`, who is known from now on."""
        times = self.world.times
        warm = user in self.known
        self.known[user] = None
        self.known.move_to_end(user)
        if len(self.known) > times.slots:
            self.known.popitem(last=False)
        return times.warm_tokens if warm else times.cold_tokens

    def serve(self, user: int) -> Process:
        """From the request's arrival to its answer."""
        env, times = self.world.env, self.world.times
        with self.loop.request() as turn:
            yield turn
            yield from self.world.compute(self.cores, times.request)
        new = self.world.dice.choice(times.new_tokens)
        sequence = _Sequence(self.uncached(user), new, env.event())
        self.sequences.append(sequence)
        if not self.wake.triggered:
            self.wake.succeed()
        yield sequence.done

    def engine(self) -> Process:
        env = self.world.env
        while True:
            if not self.sequences:
                self.wake = env.event()
                yield self.wake
            yield from self.world.compute(self.cores, self.step())
            for one in [s for s in self.sequences if s.prompt <= 0 and s.new <= 0]:
                self.sequences.remove(one)
                one.done.succeed()

    def step(self) -> float:
        """Make one step of every sequence; the seconds that it takes."""
        times, chunk, seconds = self.world.times, float(PREFILL_CHUNK), 0.0
        for one in self.sequences:
            if one.prompt <= 0:
                one.new -= 1
                seconds += times.new_token
                continue
            taken = min(one.prompt, chunk)
            chunk -= taken
            one.prompt -= taken
            seconds += taken * times.prompt_token
            if one.prompt <= 0:  # its last token gives the first new one
                one.new -= 1
        return seconds + times.step


class _World:
    def __init__(self, times: ServiceTimes, fleet: Fleet, typing: Typing) -> None:
        self.env = simpy.Environment()
        self.times, self.fleet, self.typing = times, fleet, typing
        self.dice = random.Random(typing.seed)
        self.answers: list[Answer] = []
        everyone = simpy.Resource(self.env, capacity=fleet.cores)
        self.clients = simpy.Resource(self.env, capacity=1)
        self.client_cores = everyone if fleet.shared else None
        self.backends = [
            _Backend(
                self,
                everyone if fleet.shared else simpy.Resource(self.env, fleet.cores),
            )
            for _ in range(fleet.backends)
        ]

    def compute(self, cores: simpy.Resource, seconds: float) -> Process:
        """Hold one core for so much work."""
        seconds *= self.dice.choice(self.fleet.stretches)
        with cores.request() as core:
            yield core
            yield self.env.timeout(seconds)

    def user(self, number: int) -> Process:
        """One typist: pause, ask, wait for the answer."""
        typing, env = self.typing, self.env
        dice = random.Random(f"{typing.seed} {number}")
        yield env.timeout(typing.opening_s * number / typing.users)
        for _ in range(typing.keystrokes):
            yield env.timeout(dice.expovariate(1 / typing.pause_s))
            asked = env.now
            if self.client_cores is not None:
                with self.clients.request() as turn:
                    yield turn
                    yield from self.compute(self.client_cores, self.times.client)
            yield env.timeout(self.dice.choice(self.fleet.waits))
            which = number if self.fleet.affinity else dice.randrange(1 << 30)
            yield from self.backends[which % len(self.backends)].serve(number)
            latency_s = env.now - asked
            self.answers.append(Answer(user=number, at=asked, latency_s=latency_s))
