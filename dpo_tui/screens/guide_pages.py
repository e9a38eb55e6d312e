"""Text of the guide: when DPO is right, how it compares, what the curves mean, and what to do about problems."""

from dataclasses import dataclass

from dpo_tui.strategies.dpo import DPO
from dpo_tui.strategies.method_choice import METHOD_CHOICE
from dpo_tui.strategies.sft import SFT

Paragraph = tuple[str, str]
"""(text, role), as `TextPane` shows them."""


@dataclass(frozen=True, slots=True)
class GuidePage:
    """One page of the guide.

    Attributes:
        key: names the page in `FullScreen.GUIDE_PAGE`.
        title: its name in the list.
        text: its paragraphs.
    """

    key: str
    title: str
    text: tuple[Paragraph, ...]


@dataclass(frozen=True, slots=True)
class GuideQuestion:
    """One question with yes or no.

    Attributes:
        ask: the question.
        yes: what follows a yes: another question, or an answer.
        no: what follows a no.
    """

    ask: str
    yes: "GuideQuestion | GuideAnswer"
    no: "GuideQuestion | GuideAnswer"


@dataclass(frozen=True, slots=True)
class GuideAnswer:
    """What the questions lead to.

    Attributes:
        method: the name of a training method.
        why: the reason, in a sentence or two.
    """

    method: str
    why: str


FIRST_QUESTION = GuideQuestion(
    "Has your model already learned the task, by instruction tuning or supervised fine-tuning (SFT)?",
    yes=GuideQuestion(
        "Do you have pairs of answers, one better than the other, to the same prompts?",
        yes=GuideQuestion(
            "Is there a GPU with 12 GB of memory or more?",
            yes=GuideQuestion(
                "Do you need a reward model of your own, to score other answers with later?",
                yes=GuideAnswer(
                    "RLHF", "A reward model and full control over sampling are what RLHF adds, at its price."
                ),
                no=GuideAnswer(
                    "DPO", "Pairs at hand, no reward model to train: DPO is the simple and stable way. Press 2."
                ),
            ),
            no=GuideAnswer(
                "DPO with QLoRA",
                "Under 12 GB, load the model in 4-bit and choose a smaller one; QLoRA works with every method here.",
            ),
        ),
        no=GuideAnswer(
            "SFT",
            "Without pairs there is nothing to prefer. Write demonstrations, or make pairs: `dpo-tui pairs`. Thumbs or "
            'ratings on single answers are for strategy = "kto".',
        ),
    ),
    no=GuideAnswer(
        "SFT first",
        'Teach the task from demonstrations, then align with DPO from that model: strategy = "sft" is stage one.',
    ),
)

PAGES = (
    GuidePage(
        "start",
        "Is DPO right here?",
        (
            ("When DPO is the right tool", "heading"),
            ("• You want a model to answer the way people prefer: tone, helpfulness, safety.", "text"),
            ("• You have pairs: for one prompt, an answer that is better and one that is worse.", "text"),
            ("• You want less machinery and more stability than RLHF.", "text"),
            ("• There is a GPU with 12 GB or more.", "text"),
            ("", "text"),
            ("When it is not", "heading"),
            ("• First fine-tune of a raw base model → SFT first, then DPO from that model.", "text"),
            ("• Less than 12 GB → QLoRA: 4-bit weights and a smaller model.", "text"),
            ("• A plain supervised task (classify, extract, translate) → SFT.", "text"),
            ("• No pairs → SFT, or make pairs first.", "text"),
            ("", "text"),
            ("w asks you four questions and names the method.", "accent"),
        ),
    ),
    GuidePage(
        "compare",
        "SFT, DPO, RLHF",
        (
            ("                      SFT            DPO             RLHF", "heading"),
            ("complexity            low            medium          high", "code"),
            ("stability             high           high            delicate", "code"),
            ("quality               good           better          best, if it works", "code"),
            ("speed                 fast           medium          slow", "code"),
            (f"memory, 7B 4-bit      {SFT.memory_7b_range:<15}{DPO.memory_7b_range:<16}10–12 GB", "code"),
            ("set-up                simple         pairs           reward model and PPO", "code"),
            ("learns preferences    no             yes             yes", "code"),
            ("reward model          no             no              yes", "code"),
            ("", "text"),
            (
                "DPO compares the policy with a frozen reference, the model it started from. With LoRA the reference "
                "costs no memory: it is the same model with the adapter off.",
                "text",
            ),
        ),
    ),
    GuidePage(
        "methods",
        "Which method when",
        (
            ("you have, or want → take", "heading"),
            *((f"• {case} → {method}", "text") for case, method in METHOD_CHOICE),
            ("", "text"),
            ("Without a reference: orpo, simpo, cpo", "heading"),
            (
                "They hold no second model and compute no pass of one: the cheapest methods for small cards. Nothing "
                "but the learning rate holds the model near its start, and there is no KL to watch.",
                "text",
            ),
            ("Recipes, in New → Settings, fill in a loss with its settings and name their sources.", "accent"),
        ),
    ),
    GuidePage(
        "practice",
        "Good practice",
        (
            ("Before", "heading"),
            ("• SFT first: DPO moves what the model can already do.", "text"),
            ("• 500 pairs or more, from diverse prompts.", "text"),
            ("• Clear pairs: a person would choose the same answer every time. Page through them (3 Data).", "text"),
            ("", "text"),
            ("Settings", "heading"),
            ("• Learning rate 5e-7, between 1e-7 and 1e-6; with LoRA, TRL's documentation gives about 5e-6.", "text"),
            ("• β 0.1 is called a weak, 0.5 a balanced, 2.0 a strong preference signal.", "text"),
            ("  In the formula a higher β means less deviation from the reference.", "muted"),
            ("• LoRA alpha twice the rank; dropout low (0.05).", "text"),
            ("• 2 to 4 epochs.", "text"),
            ("", "text"),
            ("While it runs", "heading"),
            ("• Watch accuracy, margin and KL, not the loss alone.", "text"),
        ),
    ),
    GuidePage(
        "curves",
        "What curves mean",
        (
            ("loss", "heading"),
            ("Starts at 0.693 (a coin's), falls towards 0.3–0.7. Flat at 0.6931: the rate is too low to move.", "text"),
            ("preference accuracy", "heading"),
            (
                "How often chosen gets the higher reward: from 0.5 to 0.7 and more. Below 0.5 early: are the "
                "labels swapped? 1.0 within 20 steps: leaked or trivial pairs.",
                "text",
            ),
            ("reward margin", "heading"),
            ("Chosen minus rejected reward; it should grow.", "text"),
            ("rewards", "heading"),
            (
                "Both may fall while the margin grows: common. It becomes harm when the chosen one keeps falling.",
                "text",
            ),
            ("KL (estimate)", "heading"),
            (
                "How far the policy's own answers are from the reference, a sum over an answer, estimated on sampled "
                "answers. Below 10 is reasonable.",
                "text",
            ),
            ("gradient norm", "heading"),
            ("0.01 to 10 is usual; spikes come with unusual pairs.", "text"),
        ),
    ),
    GuidePage(
        "trouble",
        "When it goes wrong",
        (
            ("The loss swings or grows", "heading"),
            ("Lower the rate (1e-7), warm up longer, look at the data for broken pairs.", "text"),
            ("Out of memory", "heading"),
            (
                "4-bit, a smaller batch with more accumulation, a shorter max_seq_length, a smaller model. A few very "
                "long rows are the usual cause. A run that hits the limit retries with half the micro-batch by itself.",
                "text",
            ),
            ("It does not learn the preference", "heading"),
            ("Clearer pairs, 2–4 epochs, another β, more diverse prompts, 500 pairs or more.", "text"),
            ("Loss 0.0 and accuracy 1.0 at once", "heading"),
            (
                "The reference is not the model you started from: after SFT with LoRA, merge first, then run DPO.",
                "text",
            ),
            ("The connection broke", "heading"),
            ("Runs go on without it. Come back with `dpo-tui`, or `dpo-tui attach last`.", "text"),
        ),
    ),
)
