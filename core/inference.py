"""One question being answered: the search asks, the model proposes, the judges judge, and what comes of it is a run and a result."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from agents.npc import NPC
from agents.tools import OBSERVATION, Tools
from core.attempts import Attempts, derive, new_id, result_of, run_of, shared, trace_of
from core.config import Settings
from core.errors import SearchError
from core.judging import CHARACTERS_A_TOKEN, Judging
from core.registry import STRATEGIES, resolve
from core.search.budget import Budget
from core.search.drivers import Proposal, drive
from core.search.events import Event, EventLog, children_of, read_log, usage_of
from core.search.search import Search
from core.search.tree import Child, Plan, Policy, Ticket
from core.tasks.spelling import spelled
from core.types import Completion, Domain, Message, Model, Outcome, Reply, Request, Result, Run, Sampling, Task, Trace, Usage

log = logging.getLogger(__name__)

NEWLINE = "\n"
ANSWERED = re.compile(r"\W*(final )?answer\b\W*\w", re.IGNORECASE)
LONG_ANSWERS = (Domain.CODE, Domain.CREATIVE)  # what follows "Answer:" may have many lines, so that it ends with the turn
REFLECT = (
    "Here is an attempt that failed:\n\n{}\n\n{} In two sentences at most: what went wrong, and what should be done differently? "
    "Don't solve the task."
)
LESSONS = "\n\nKeep in mind, from attempts that failed:\n{}"
SIDE_BY_SIDE = 8  # requests of one search under way at once, where a server answers them


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, of whom, and how."""

    task: Task
    npc: NPC
    model: Model
    strategy: str
    confidence: float


def log_path(log_dir: Path, key: str) -> Path:
    """Where the events of the search with that key are kept until its run is stored."""
    return log_dir / "searches" / f"{key}.jsonl"


class Inference:
    """Answers one question. `emit` takes each event of the search as it happens; `log_dir` keeps them until the run is stored."""

    def __init__(
        self,
        question: Question,
        settings: Settings,
        judging: Judging,
        *,
        emit: Callable[[Event], None] | None = None,
        log_dir: Path | None = None,
    ) -> None:
        self.settings, self.judging = settings, judging
        self.tools = Tools(question.npc.tools)
        self.attempts = Attempts(
            task=question.task,
            confidence=question.confidence,
            npc=question.npc,
            model=question.model,
            seed=derive(settings.SEED, question.task.id),
            strategy=question.strategy,
            run_id=new_id(),
            started=time.monotonic(),
            created=time.time(),
        )
        self._begin()
        self.events: list[Event] = []
        self._judged: dict[int, list[Trace]] = {}
        self.log_path = log_path(log_dir, self.key) if log_dir else None
        self._listener = emit
        self._log: EventLog | None = None
        self.error: str | None = None

    @property
    def key(self) -> str:
        """The same for the same question to the same weights under the same settings: such a search goes the same way."""
        a, s = self.attempts, self.settings
        asked = getattr(a.model, "asked", None)
        seed = (a.strategy, a.seed)
        worker = (asked, *seed) if asked else (a.model.name, a.model.fingerprint, *seed, a.npc.primary_directive)
        judged = (
            self.judging.guided_by,
            s.VERIFIED_BY,
            *(sorted(each.items()) for each in (s.VERIFIERS, s.REWARD_WEIGHTS, s.SEARCH_SIGNALS)),
        )
        parts = (a.task.id, spelled(a.task), worker, judged, self._plan(), self._budget(), s.TEMPERATURE, s.MAX_TOKENS)
        return sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]

    async def run(self) -> Result:
        """Search to the end. The run can be had afterwards, also when this raises."""
        try:
            begun = self._resume()
            await drive(self.search, self._propose, concurrency=self._concurrency(), ordered=self.settings.SEARCH_ORDERED, begun=begun)
        except BaseException as problem:
            self.error = str(problem) or type(problem).__name__
            raise
        finally:
            if self._log:
                self._log.close()
        return result_of(self.attempts, vote=self.attempts.strategy == "self_consistency")

    def record(self) -> Run:
        """The whole search as the store keeps it."""
        run = run_of(self.attempts, self.policy.nodes(), self.error, self.search.stopped, self.key, tuple(self.events))
        return run.replace(process_reward=self.judging.guided_by)

    def forget_log(self) -> None:
        """The run is stored: its log is not needed any more."""
        if self.log_path:
            self.log_path.unlink(missing_ok=True)

    def _begin(self) -> None:
        self.policy: Policy = resolve(STRATEGIES, self.attempts.strategy)(self._plan())
        self.search = Search(
            self.policy, self._budget(), estimate=self._estimate, emit=self._emit, elapsed=lambda: time.monotonic() - self.attempts.started
        )

    def _plan(self) -> Plan:
        s = self.settings
        thinks = getattr(self.attempts.model, "reflects", True)
        return Plan(
            width=s.SEARCH_WIDTH,
            depth=s.SEARCH_DEPTH,
            calls=s.SEARCH_CALLS,
            exploration=s.SEARCH_EXPLORATION,
            reflections=s.SEARCH_REFLECTIONS if thinks else 0,
            prune=s.SEARCH_PRUNE,
        )

    def _budget(self) -> Budget:
        s = self.settings
        return Budget(
            prompt_tokens=s.SEARCH_PROMPT_TOKENS,
            completion_tokens=s.SEARCH_COMPLETION_TOKENS,
            seconds=s.SEARCH_SECONDS,
            cost=s.SEARCH_COST,
        )

    def _estimate(self, ticket: Ticket) -> Usage:
        """The most that a ticket may use: of the completion exactly, of the prompt by its length."""
        a = self.attempts
        prompt = (len(a.npc.primary_directive) + len(a.task.prompt) + len(ticket.prefix)) // CHARACTERS_A_TOKEN
        used = a.usage
        price = None if not used.cost or not used.completion_tokens else used.cost / used.completion_tokens
        most = ticket.n * self._max_tokens()
        return Usage(1, prompt, most, None if price is None else price * most)

    def _concurrency(self) -> int:
        if self.settings.SEARCH_CONCURRENCY:
            return self.settings.SEARCH_CONCURRENCY
        return 1 if self._in_process() else SIDE_BY_SIDE

    def _in_process(self) -> bool:
        return bool(getattr(self.attempts.model, "in_process", False))

    def _emit(self, event: Event) -> None:
        if event.kind == "tell" and event.data["grows"]:
            self.attempts.attempts += self._judged.pop(event.number, [])
        if self._log:
            self._log.append(event)
        if self.settings.KEEP_EVENTS == "always" or (self.settings.KEEP_EVENTS == "auto" and not self._in_process()):
            self.events.append(event)
        if self._listener:
            self._listener(event)

    def _resume(self) -> tuple[Ticket, ...]:
        """Go on from what a killed search left, where calls cost something; begin a log otherwise."""
        if self.log_path is None or (self._in_process() and self.settings.KEEP_EVENTS != "always"):
            return ()
        header = {"key": self.key}
        try:
            # what was broken off is still to be answered; what failed was asked for again, as another ticket
            events = [event for event in read_log(self.log_path, header) if event.kind in ("ask", "tell", "fail")]
            begun = self.search.replay(events)
            for event in events:
                if event.kind == "tell":
                    self._recall(event)
            self.events = list(events)
            self._log = EventLog(self.log_path, header, self._keeps_no_secret())
        except SearchError as error:
            log.warning("this search can't be resumed if it is broken off: %s", error)
            self._begin()
            self.events, self.attempts.attempts, self.attempts.usage = [], [], Usage()
            return ()
        return begun

    def _keeps_no_secret(self) -> Callable[[Event], bool]:
        """Which events may be written as they are. The question is known too: a secret of its own may be quoted bare."""
        if not self.settings.REDACT:
            return lambda event: True
        from logs.redact import Redactor

        task = self.attempts.task
        clean = Redactor(personal=self.settings.REDACT_PERSONAL).clean(task.prompt, task.reference or "", task.metadata)
        return lambda event: clean(event.data)

    def _recall(self, event: Event) -> None:
        """Attempts of a replayed search are judged again: that costs no call. One that failed and would not now had been cut off."""
        usage, children = usage_of(event), children_of(event)
        self.attempts.usage += usage
        if not event.data["grows"]:
            return
        nodes = {node.path: node for node in self.policy.nodes()}
        prefix = "".join(nodes[path].text for path in _paths(event.path))
        for index, child in enumerate(children, event.data["first"]):
            if child.terminal:
                path = f"{event.path}.{index}" if event.path else str(index)
                share = shared(usage, len(children))
                trace = self._finish(prefix + child.text, path, True, share)
                if child.outcome is Outcome.FAIL and trace.verdict.outcome is not Outcome.FAIL:
                    trace = self._finish(prefix + child.text, path, False, share)
                self.attempts.attempts.append(trace)

    def _max_tokens(self) -> int:
        return self.attempts.npc.max_tokens or self.settings.MAX_TOKENS

    def _sampling(self, ticket: Ticket) -> Sampling:
        a = self.attempts
        temperature = self.settings.TEMPERATURE if a.npc.temperature is None else a.npc.temperature
        return Sampling(
            temperature=0.0 if a.strategy == "single" else temperature,
            max_tokens=self._max_tokens(),
            stop=((f"{NEWLINE}{OBSERVATION}",) if self.tools else ()) if ticket.whole else (NEWLINE,),
            seed=derive(a.seed, ticket.path, ticket.first, *ticket.lessons),
        )

    async def _propose(self, ticket: Ticket) -> Proposal:
        if ticket.reflect:
            return await self._reflect(ticket)
        a = self.attempts
        prompt = a.task.prompt + self.tools.offer()
        prompt += LESSONS.format("\n".join(f"- {lesson}" for lesson in ticket.lessons)) if ticket.lessons else ""
        request = Request(a.npc.messages(prompt), ticket.n, self._sampling(ticket), prefix=ticket.prefix)
        reply = await self._complete(request)
        if self.tools:
            reply = await self._with_tools(request, reply)
        share = shared(reply.usage, len(reply.completions))
        said = Counter(completion.text.strip() for completion in reply.completions)
        self._judged[ticket.number] = []
        children = []
        for i, completion in enumerate(reply.completions):
            agreeing = said[completion.text.strip()] / len(reply.completions)
            children.append(await self._judge(ticket, ticket.first + i, completion, share, agreeing))
        return Proposal(children, reply.usage)

    async def _with_tools(self, request: Request, reply: Reply) -> Reply:
        """Each completion that calls a tool gets its observation; a whole answer goes on from there to its end."""
        done, usage = [], reply.usage
        for i, first in enumerate(reply.completions):
            completion = first
            for turn in range(self.settings.SEARCH_DEPTH):
                line = completion.text.removesuffix(OBSERVATION)
                if completion.finish != "stop" or not self.tools.calls(line):
                    break
                text = line.rstrip("\n") + NEWLINE + await asyncio.to_thread(self.tools.observe, line)
                completion = completion.replace(text=text)
                if request.sampling.stop == (NEWLINE,):
                    break
                seed = derive(request.sampling.seed, i, turn)
                more = await self._complete(
                    request.replace(n=1, sampling=request.sampling.replace(seed=seed), prefix=request.prefix + text)
                )
                usage += more.usage
                completion = more.completions[0].replace(text=text + more.completions[0].text)
            done.append(completion)
        return Reply(tuple(done), usage)

    async def _reflect(self, ticket: Ticket) -> Proposal:
        a = self.attempts
        asked = (*a.npc.messages(a.task.prompt), Message("user", REFLECT.format(ticket.prefix, ticket.about)))
        reply = await self._complete(Request(asked, 1, self._sampling(ticket).replace(stop=())))
        return Proposal([Child(reply.completions[0].text, terminal=False)], reply.usage)

    async def _complete(self, request: Request) -> Reply:
        reply = await self.attempts.model.complete(request)
        self.attempts.usage += reply.usage
        return reply

    async def _judge(self, ticket: Ticket, index: int, completion: Completion, share: Usage, agreeing: float) -> Child:
        task, step = self.attempts.task, completion.text
        if completion.finish == "stop" and NEWLINE not in step:
            # servers cut the stop string off, and the next step must not run into this one; a token may hold an indentation behind it
            step += NEWLINE
        text = ticket.prefix + step
        if completion.finish == "stop" and not ticket.whole and (task.domain in LONG_ANSWERS or not ANSWERED.match(step)):
            return Child(step, terminal=False, value=self.judging.promise(task, text, completion, agreeing))
        node = f"{ticket.path}.{index}" if ticket.path else str(index)
        trace = await asyncio.to_thread(self._finish, text, node, completion.finish != "length", share)
        self._judged[ticket.number].append(trace)
        feedback = self.judging.feedback(trace.verdict)
        return Child(step, terminal=True, value=trace.reward, outcome=trace.verdict.outcome, feedback=feedback)

    def _finish(self, text: str, node: str, complete: bool, share: Usage) -> Trace:
        a = self.attempts
        verdict = self.judging.verdict(a.task, text, complete=complete)
        earned = self.judging.reward(a.task, text, verdict, a.usage.calls)
        return trace_of(a, text, verdict, earned, node, complete, share)


def _paths(path: str) -> list[str]:
    """Of "1.4" the nodes on the way: "", "1", "1.4"."""
    parts = path.split(".") if path else []
    return ["", *(".".join(parts[: i + 1]) for i in range(len(parts)))]
