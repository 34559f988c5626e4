"""From hypotheses to a verdict: diagnosed, how-to, healthy, or an honest "not enough"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from assistant.hypotheses import Hypothesis, specificity
from assistant.signals import Signals
from assistant.symptoms import kinds_of, likeness
from assistant.types import AnswerStatus
from kb.tokens import tokenize
from kb.types import Document
from probes.scanner import Match, RootException

COMPLAINT = re.compile(
    r"(?i)\b(slow|slower|crawl(?:s|ing|ed)?|crash\w*|die[sd]?|dead|kill\w*|fail\w*|errors?|exception|oom|out of memory|stuck|hang\w*|hung|freez\w*|"
    r"refus\w*|can(?:no|')t|won't|doesn't|not work\w*|broken|garbage|gibberish|repeat\w*|timeouts?|time[sd]? out|drop(?:s|ped)|(?:is|goes|went) down|stop(?:s|ped) (?:answering|responding|working)|unresponsive|"
    r"unreadable|than (?:it|they) should|(?:third|half|quarter|fraction) of (?:the|its|their) \w+|(?:holds?|gives?|returns?|comes?|came) (?:no|nothing|empty|back empty)|"
    r"nothing (?:comes|came) back|no (?:answer|reply|response|result)s?|"
    r"never (?:gets|comes|starts|ends|returns|finishes)|sits? there|forever|takes? ages|complain\w*|vanish\w*|(?:is|are) gone|gets? nothing|too (?:low|high|long)|nothing happens|wrong|worse|acting up|[45]\d\d)\b"
    r"|跑不起来|有问题|出(?:了)?问题|怪怪的|不正常|重启|变差|慢|卡住|卡死|卡顿|卡在|很卡|崩|挂|死|报\S{0,2}错|错误|失败|异常|不动|不了|不到|没有可用|不可用|不能用|超时|溢出|爆|太低|很低|乱码|重复|掉线|无法|不能|起不来|拒绝|被杀|闪退|没了|断了|全断|丢了|丢失|只拿到|收不到|不太对|不对劲|跟以前不一样"
)
ASKS_REMEDY = re.compile(
    r"(?i)\bhow (?:do|can|should|would|to)?\s*(?:i|we|you)?\s*(?:fix|solve|resolve|avoid|get rid|stop|prevent)|\bwhy\b|\bwhat(?: is|'s) (?:it\s*\?|going on|happening|wrong|the (?:cause|reason|problem|matter))|\bwhat (?:causes|may|could|might)\b|\bwhat (?:should|can|do|shall|could) (?:i|we) do(?: now)?\s*(?:[?.!]|$)|\bhow (?:can|could|come)\b[^.!?]*\b(?:be|happen)\b|怎么解决|如何解决|怎么防|怎么避免|如何避免|怎么办|为什么|怎么回事|原因"
)
ASKS_HOW = re.compile(
    r"(?i)\b(how (?:do|can|should|would|to|much|many|long)|what (?:is|are|does|should|settings?|flags?)|which|where (?:do|can|are|is)|"
    r"is there (?:a|any) (?:way|flag|option)|best (?:way|practice)|recommended|explain|guide|steps? (?:to|for)|step[- ]by[- ]step|should i|can i|difference between)\b"
    r"|怎么|怎样|如何|哪些|什么|哪个|哪里|多少|是否|能不能|可以.*吗|区别|步骤|推荐|建议"
)
CLAUSE = r"(?:^|[.!?,;:]\s+|\b(?:or|and|but|so)\s+)"
ASKS_WHETHER = re.compile(
    rf"(?i){CLAUSE}(?:is|are|was|were|did|does|do i|should i|must i|have i|has|can i|any(?:thing)?)\b[^.!]*\?|\b(?:normal|harmless|to worry about|look(?:s)? (?:all )?right)\b"
    r"|吗|是不是|有没有|要不要|需不需要|要紧|正常|隐患|是否"
)
ASKS_VERDICT = re.compile(
    rf"(?i){CLAUSE}(?:is|are|was|were|does)\b[^.!?]*\b(?:normal|ok(?:ay)?|fine|broken|wrong|expected|harmless|a (?:problem|bug|fault)|all right)\b[^.!?]*\?"
    r"|\bany(?:thing|\b[^.!?]*) (?:wrong|broken|to worry about)\b[^.!?]*\?|\b(?:should|must|do) (?:i|we) (?:need to )?(?:worry|be worried)"
    r"|正常吗|正常么|有问题吗|要紧吗|算异常吗|(?:需要|要|用)处理吗|是不是坏了|要担心吗"
)
JUDGED = re.compile(
    r"(?i)\b(?:slow|wrong|broken|odd|strange|weird|refused|unable|errors?)\b|慢|怪|挂住|变差|不到|报错|错误"
)
LOG_WORDS = re.compile(
    r"(?i)\b(?:errors?|fail\w*|exceptions?)\b|报错|错误|失败|异常"
)  # what a log says is not what the server does
CALL_FOR_HELP = re.compile(
    r"(?i)\b(help|server|service|process|machine|it|my|everything)\b|服务|帮|程序|进程|机器|线上|怎么办|求助"
)
# Over evals/queries.tsv right answers have a coverage of 0.54 and more but for two; unrelated questions that name a GPU or a
# library of the field reach 0.7, those that do not name any are turned away before.
FAULT_COVERAGE, HOWTO_COVERAGE = 0.55, 0.45
# Over 42 public incidents whose line no document knew, the nearest document was a right one in 27, one of three in 33, and
# the coverage of the right and of the wrong ones hardly differed: below this floor nothing was near.
CLOSEST_COVERAGE = 0.25
# A complaint without a log is answered where it says a state in six words or more and a fault covers half of them; with fewer
# words or less of them covered, the vague cases of the evaluation were answered too.
TOLD_COVERAGE, TOLD_WHOLLY, TOLD_WORDS = 0.5, 0.8, 6
STATES = frozenset({"wrong output", "hang", "slow", "memory"})  # "it crashed" alone tells nothing
# Over 90 blind reports right at 1 rose by 4 with 0.2, and by no more with 0.3.
ALIKE = 0.2
SUPPORTED = 0.1  # what a reading that speaks for a document adds to how near it is
DECISIVE = 0.30
TELLING_TERMS = 5
TELLING_SPECIFIC = 2  # beside a log of something else, one name may be another's: TPOT is also an AutoML tool
MESSAGE_LINES = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """The status, the leading hypotheses with their confidence, and why."""

    status: AnswerStatus
    ranked: tuple[tuple[Hypothesis, float], ...] = ()
    why: str = ""


def decisive(hypotheses: Sequence[Hypothesis], root: RootException | None) -> bool:
    """Whether a signature decides, so that nothing need be searched: it is specific, and it speaks of the root exception."""
    if not hypotheses:
        return False
    lines = [m for s, m in hypotheses[0].matches if s.role == "cause" and specificity(s.pattern) >= DECISIVE]
    return bool(lines) and (root is None or any(stands_at(m, root) for m in lines))


def stands_at(match: Match, root: RootException) -> bool:
    """Whether a line is that of the root exception, or one of the lines of its message."""
    return any(
        hit.path == root.path and 0 <= hit.line - root.line <= MESSAGE_LINES for hit in (match.first, match.last)
    )


def confidence(hypothesis: Hypothesis, second: Hypothesis | None, coverage: float) -> float:
    """0…1. A cause stands on its line; a document that search alone brought up on how much of the question it covers."""
    if hypothesis.is_cause:
        value = 0.50 + 0.52 * hypothesis.score
        if second is not None and second.is_cause:
            value -= 0.15 * max(0.0, 1 - (hypothesis.score - second.score) / 0.2)
    else:
        value = 0.15 + 0.5 * coverage + 0.1 * len(hypothesis.supporting) + 0.6 * hypothesis.alarm
    return round(min(max(value, 0.05), 0.97), 2)


@dataclass(frozen=True, slots=True)
class Topic:
    """What the words are about: terms of the field, those of them that are specific, and whether any word is foreign to it."""

    terms: tuple[str, ...] = ()
    specific: tuple[str, ...] = ()
    is_foreign: bool = False

    @property
    def is_telling(self) -> bool:
        """Whether the words narrow it down: one specific term, or four of the field."""
        return bool(self.specific) or len(self.terms) >= TELLING_TERMS


def judge(
    question: str,
    signals: Signals,
    hypotheses: Sequence[Hypothesis],
    coverages: Sequence[float],
    topic: Topic,
    ailing: bool,
    calm: bool = False,
) -> Verdict:
    """The verdict. `coverages` go with the hypotheses, `ailing` says that a probe found fault, `calm` that several looked and none did."""
    ranked = tuple(
        (
            h,
            confidence(
                h, hypotheses[i + 1] if i + 1 < len(hypotheses) else None, coverages[i] if i < len(coverages) else 0.0
            ),
        )
        for i, h in enumerate(hypotheses[:5])
    )
    well = is_healthy(question, signals, topic, ailing, calm)
    if well and signals.has_recovered and ASKS_VERDICT.search(question):
        return Verdict("healthy", ranked)
    if ranked and ranked[0][0].is_cause:
        return Verdict("diagnosed", ranked)
    shown = signals.has_log or signals.command or signals.matches
    failing = complains(question)
    if signals.has_log and not signals.is_ours and not signals.engine and len(topic.specific) < TELLING_SPECIFIC:
        return Verdict("out_of_scope", ranked)
    if not topic.terms and not (shown and signals.is_ours):
        return Verdict("insufficient" if not shown and is_cry_for_help(question, topic) else "out_of_scope", ranked)
    if well:
        return Verdict("healthy", ranked)
    asks_way = asks_how(question) and not failing and not ASKS_REMEDY.search(question)
    kinds = kinds_of(question)
    near = nearest(hypotheses, coverages, signals, kinds)
    told = topic.is_telling or is_told(question, near, kinds, topic)
    if signals.names_cause or (signals.has_log and failing and told and not asks_way):
        return closest(near, ranked)
    if signals.has_log and (signals.has_errors or not question.strip()) and not asks_how(question):
        return Verdict("insufficient", ranked, "no known error line")
    if not near or not (told or asks_way or (near[0][0].alarm and (failing or ASKS_REMEDY.search(question)))):
        return Verdict("insufficient", ranked, "nothing specific was said")
    top, covered = near[0]
    howto = top.document.kind == "howto"
    if covered + SUPPORTED * len(top.supporting) + top.alarm < (HOWTO_COVERAGE if howto else FAULT_COVERAGE):
        return closest(near, ranked) if told or top.alarm else Verdict("insufficient", ranked, "weak match")
    sure = tuple((h, confidence(h, None, c)) for h, c in near[:5])
    return Verdict("howto" if howto or asks_way else "diagnosed", sure)


def is_told(question: str, near: Sequence[tuple[Hypothesis, float]], kinds: frozenset[str], topic: Topic) -> bool:
    """Whether words without a specific term still tell a fault: six words or more that say what kind of trouble it is, not that
    it crashed alone, and the nearest fault, of the same kind, covers half of them; most of them where the kind is no state."""
    if (
        not (kinds - {"crash"} and near and topic.terms)
        or topic.is_foreign
        or len(set(tokenize(question))) < TOLD_WORDS
    ):
        return False
    document, covered = near[0][0].document, near[0][1]
    return covered >= (TOLD_COVERAGE if kinds & STATES else TOLD_WHOLLY) and likeness(kinds, document) > 0


def first_found(hypotheses: Sequence[Hypothesis]) -> Verdict:
    """The verdict of plain retrieval, which never abstains: what the search found, with its score as the confidence."""
    if not hypotheses:
        return Verdict("insufficient")
    ranked = tuple((h, round(min(1.0, h.hit.score if h.hit else h.score), 2)) for h in hypotheses[:5])
    return Verdict("howto" if hypotheses[0].document.kind == "howto" else "diagnosed", ranked)


def is_healthy(question: str, signals: Signals, topic: Topic, ailing: bool, calm: bool) -> bool:
    """Whether a log shows a server that came up or ended as it should, or calm probes a host, and nobody says that it fails:
    whoever asks whether something is a fault has only read it."""
    if (signals.has_errors and not signals.has_recovered) or ailing or not (signals.is_up if signals.has_log else calm):
        return False
    asks = bool(ASKS_WHETHER.search(question))
    said = LOG_WORDS.sub("", ASKS_WHETHER.sub("", question)) if asks else question
    if signals.has_log and ASKS_VERDICT.search(question):
        said = JUDGED.sub("", said)  # it asks whether that is so
    return not complains(said) and (asks or (signals.has_log and len(topic.specific) < TELLING_SPECIFIC))


def nearest(
    hypotheses: Sequence[Hypothesis],
    coverages: Sequence[float],
    signals: Signals,
    kinds: frozenset[str],
) -> list[tuple[Hypothesis, float]]:
    """What the search brought up and could be the cause, with how much of the question it covers: best hit first, the
    readings for and against it counted. Lines that only go along with a fault do not count here: they are in every log. Nor do
    documents of the other engine alone, where the engine is known. What tells of the same kinds of trouble comes before."""
    found = [
        (h, c) for h, c in zip(hypotheses, coverages, strict=False) if is_near(h) and is_of(h.document, signals.engine)
    ]

    def worth(hypothesis: Hypothesis, covered: float) -> float:
        return ALIKE * likeness(kinds, hypothesis.document) + nearness(hypothesis, covered)

    return sorted(found, key=lambda pair: -worth(*pair))


def is_of(document: Document, engine: str) -> bool:
    """Whether a document speaks of an engine, or of all, or it is not known which it is about."""
    return not engine or not document.engines or engine in document.engines


def nearness(hypothesis: Hypothesis, covered: float) -> float:
    """0…1 and a little: the hit's score and how much of the question it covers, half each, moved by the readings.

    A document that a probe's warning brought up has no hit: what it covers counts alone.
    """
    searched = hypothesis.hit.score if hypothesis.hit else covered if hypothesis.measured else 0.0
    score = (searched + covered) / 2
    return score + hypothesis.alarm + SUPPORTED * len(hypothesis.supporting) - SUPPORTED * len(hypothesis.contradicting)


def closest(near: Sequence[tuple[Hypothesis, float]], ranked: Sequence[tuple[Hypothesis, float]]) -> Verdict:
    """The nearest documents to an error that none of them names, said with little confidence."""
    covering = [(h, c) for h, c in near if c >= CLOSEST_COVERAGE]
    if not covering:
        return Verdict("insufficient", tuple(ranked), "no known error line")
    return Verdict("diagnosed", tuple((h, round(0.15 + 0.4 * c, 2)) for h, c in covering), "closest")


def is_near(hypothesis: Hypothesis) -> bool:
    """Whether the search brought a document up that could be the cause of an error."""
    follows = {s.role for s in hypothesis.document.signatures} == {"consequence"}
    return (hypothesis.hit is not None or hypothesis.alarm > 0) and not hypothesis.is_consequence and not follows


def is_cry_for_help(question: str, topic: Topic) -> bool:
    """Whether someone says that something of theirs is broken, and nothing else."""
    helpless = CALL_FOR_HELP.search(question) and not asks_how(question)
    return not topic.is_foreign and bool(COMPLAINT.search(question) or helpless)


def complains(question: str) -> bool:
    """Whether the words say that something does not work."""
    return bool(COMPLAINT.search(question))


def asks_how(question: str) -> bool:
    """Whether the question asks for a way rather than for a cause."""
    return bool(ASKS_HOW.search(question))
