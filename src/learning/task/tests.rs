use super::*;
use crate::query::TaskKind::{self, *};
use proptest::prelude::*;

/// Prompts that leave no doubt, in our own words.
const CLEAR: [(&str, TaskKind); 44] = [
    ("Write a Rust function that parses an ISO 8601 date.", Code),
    ("Implement a priority queue in Java with unit tests.", Code),
    (
        "Write a SQL query that lists the ten customers with the highest turnover.",
        Code,
    ),
    ("Create a regex that matches IPv6 addresses.", Code),
    (
        "Why does this code throw an error?\n\ndef f(x):\n    return x[0]\n\nf(None)\nTypeError: 'NoneType' object is not subscriptable",
        Debugging,
    ),
    (
        "Find the bug in this function:\n\nfn mean(v: &[f64]) -> f64 {\n    v.iter().sum::<f64>() / 0.0\n}",
        Debugging,
    ),
    (
        "I get this error: KeyError: 'price' when running my script. How do I fix it?",
        Debugging,
    ),
    ("Solve 3x + 7 = 25 for x.", Math),
    ("Compute the derivative of x^3 sin(x).", Math),
    (
        "Anna has 12 pears and gives 5 to Ben. She then buys 8 more. How many pears does she have now?",
        Math,
    ),
    (
        "What is the probability of rolling a sum of 9 with two dice?",
        Math,
    ),
    (
        "If all zorps are quibs and some quibs are flans, can we conclude that some zorps are flans?",
        Reasoning,
    ),
    (
        "Alice is taller than Bob. Carol is shorter than Bob. Who is the tallest?",
        Reasoning,
    ),
    (
        "What would have happened if the steam engine had never been invented?",
        Reasoning,
    ),
    (
        "Estimate how many piano teachers work in Berlin. State your assumptions.",
        Reasoning,
    ),
    (
        "Read the passage and answer the question.\n\nThe mill was built in 1843 by two brothers. It burned down twice and was rebuilt each time with money from the town. In 1920 it was turned into a school, and today it houses the archive.\n\nQuestion: Who built the mill?",
        ClosedQa,
    ),
    (
        "Context: The festival begins on Thursday and lasts four days. Tickets can be had at the gate, and children enter free. Last year more than nine thousand people came.\n\nQuestion: How long does the festival last?\nAnswer:",
        ClosedQa,
    ),
    ("Who discovered penicillin?", OpenQa),
    ("What is the capital of Mongolia?", OpenQa),
    ("Explain how photosynthesis works in simple terms.", OpenQa),
    (
        "Summarize the following article in two sentences:\n\nThe town council met on Monday to discuss the new bridge. Several residents spoke against the plan because of noise. The vote was put off until May.",
        Summarisation,
    ),
    (
        "The committee met for six hours and heard thirty speakers. In the end nothing was decided and a second meeting was set for June.\n\nTL;DR:",
        Summarisation,
    ),
    (
        "Extract all dates and names from the following text: On 3 May Clara met Otto in Graz.",
        Extraction,
    ),
    (
        "List all company names mentioned in this email and return them as JSON.\n\nHi, Brown & Sons and Polar AG have both signed.",
        Extraction,
    ),
    (
        "Classify the sentiment of this review as positive or negative: The soup was cold and the staff rude.",
        Classification,
    ),
    (
        "Is the following message spam? Answer yes or no.\n\nYou have won a cruise, click here now!",
        Classification,
    ),
    (
        "Sentence 1: The cat sleeps.\nSentence 2: The cat is asleep.\nDo these two sentences mean the same thing?",
        Classification,
    ),
    (
        "Rewrite this sentence in a more formal tone: hey, can't make it tomorrow, sorry.",
        Rewriting,
    ),
    (
        "Correct the grammar in the following sentence: She go to school every days.",
        Rewriting,
    ),
    ("Paraphrase: The early bird catches the worm.", Rewriting),
    (
        "Translate the following sentence into French: The train is late again.",
        Translation,
    ),
    ("How do you say \"good night\" in Japanese?", Translation),
    (
        "Übersetze ins Englische: Der Hund schläft auf dem Sofa.",
        Translation,
    ),
    (
        "Write a short story about a lighthouse keeper who befriends a storm.",
        Creative,
    ),
    ("Compose a haiku about autumn rain.", Creative),
    (
        "Act as a medieval knight and tell me about your day.",
        Creative,
    ),
    (
        "Write a polite email to my landlord about the broken heating.",
        Creative,
    ),
    (
        "Analyze the following data and describe the trend:\n\nmonth,sales\nJan,120\nFeb,135\nMar,150",
        DataAnalysis,
    ),
    ("Hello! How are you today?", Chat),
    ("I feel lonely lately. What should I do?", Chat),
    ("Can you recommend a good board game for two?", Chat),
    ("set an alarm for 7 am tomorrow", ToolUse),
    ("what's my checking account balance", ToolUse),
    ("turn off the lights in the kitchen", ToolUse),
];

#[test]
fn clear_prompts_get_their_kind() {
    let wrong: Vec<String> = CLEAR
        .iter()
        .map(|(text, kind)| (text, *kind, classify(text, false)))
        .filter(|(_, kind, got)| got.kind != *kind)
        .map(|(text, kind, got)| {
            format!(
                "{text:?}: {} ({:.2}), not {}",
                got.kind.name(),
                got.probability,
                kind.name()
            )
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_weights_compiled_in_are_valid_and_small() {
    let model = built_in().expect("valid weights");
    assert_eq!(model.validate(), Ok(()));
    const { assert!(LENGTH <= 300_000) };
    assert_eq!(Model::read(&model.write()).as_ref(), Ok(model));
}

#[test]
fn damaged_weights_are_refused() {
    let bytes = built_in().expect("valid weights").write();
    for at in (0..bytes.len()).step_by(bytes.len() / 50) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        assert!(Model::read(&damaged).is_err(), "byte {at}");
    }
    assert!(Model::read(&bytes[..bytes.len() - 1]).is_err());
    assert!(Model::read(&[]).is_err());
}

#[test]
fn numbers_scoring_cannot_bear_are_refused() {
    let good = built_in().expect("valid weights");
    for spoil in [
        |model: &mut Model| model.temperature = 0.0,
        |model: &mut Model| model.temperature = f32::NAN,
        |model: &mut Model| model.threshold = 1.5,
        |model: &mut Model| model.bias[3] = f32::INFINITY,
        |model: &mut Model| model.dense_scale[0] = f32::NAN,
    ] {
        let mut bad = good.clone();
        spoil(&mut bad);
        assert!(bad.validate().is_err());
        assert!(Model::read(&bad.write()).is_err());
    }
}

#[test]
fn languages_are_told_apart() {
    for (text, code) in [
        (
            "Please explain to me how the tides work and why they are late.",
            "en",
        ),
        (
            "Schreibe mir bitte einen kurzen Text über den Herbst und die Blätter.",
            "de",
        ),
        (
            "Explique-moi pourquoi le ciel est bleu et comment se forme la pluie.",
            "fr",
        ),
        (
            "Escribe un cuento sobre el mar y los barcos que no vuelven.",
            "es",
        ),
        (
            "Escreva uma carta para a minha avó sobre o que não sei dizer.",
            "pt",
        ),
        (
            "Scrivi una storia che parla di un gatto e della sua casa.",
            "it",
        ),
        (
            "Schrijf een gedicht over het water en de wind in de stad.",
            "nl",
        ),
        ("请写一首关于春天的诗。", "zh"),
        ("東京の天気について教えてください。", "ja"),
        ("오늘 날씨가 어떤지 알려 주세요.", "ko"),
        ("Напиши короткий рассказ о зиме.", "ru"),
        ("اكتب قصة قصيرة عن البحر.", "ar"),
        ("", "und"),
        ("1234 5678", "und"),
    ] {
        assert_eq!(classify(text, false).language.code(), code, "{text}");
    }
}

#[test]
fn more_work_scores_harder() {
    for (easier, harder) in [
        (
            "What is 2 + 2?",
            "Prove that for every integer n > 1, n^4 + 4 is composite, then find all primes p such that p^4 + 4^p is prime, and justify each step.",
        ),
        (
            "Write a function to reverse a string.",
            "Design and implement a concurrent rate limiter in Rust with these constraints:\n1. It must be lock-free on the fast path.\n2. Tokens refill at 100 per second.\n3. It supports bursts of 20.\n4. Old keys expire after 10 minutes.\nAdd unit tests, explain the memory ordering, and analyse the worst case.",
        ),
        (
            "Hello!",
            "Compare the causes of the two world wars, explain which factors they share, and discuss three arguments of historians.",
        ),
        (
            "Who wrote Faust?",
            "There are 5 houses in a row.\n1. The baker lives next to the owner of the fox.\n2. The red house is left of the green one.\n3. Tea is drunk in house 3.\n4. The pilot drinks milk.\n5. The lynx lives in the first house.\nWho owns the otter? Explain your reasoning.",
        ),
    ] {
        let (low, high) = (classify(easier, false), classify(harder, false));
        assert!(
            low.difficulty_score < high.difficulty_score,
            "{easier} / {harder}"
        );
        assert!(low.difficulty < high.difficulty, "{low:?} {high:?}");
    }
}

#[test]
fn offered_tools_raise_the_odds_of_tool_use_only() {
    let prompt = "find a flight to Oslo on Friday";
    let (without, with) = (classify(prompt, false), classify(prompt, true));
    assert_eq!(with.likeliest, ToolUse);
    assert!(without.likeliest != ToolUse || with.probability >= without.probability);
    assert_eq!(
        classify("Write a Rust function that sorts a list.", true).kind,
        Code
    );
}

#[test]
fn a_long_prompt_is_read_at_both_ends() {
    let filler = "The river was high and the road was closed that day. ".repeat(4000);
    let asked = classify(
        &format!("{filler}\n\nSummarize the text above in one sentence."),
        false,
    );
    assert!(asked.truncated);
    assert_eq!(asked.kind, Summarisation);
    let led = classify(
        &format!("Translate the following text into German:\n\n{filler}"),
        false,
    );
    assert_eq!(led.kind, Translation);
    let (head, tail) = excerpt(&filler);
    assert_eq!((head.len(), tail.len()), (HEAD_BYTES, TAIL_BYTES));
}

#[test]
fn the_middle_of_a_long_prompt_changes_nothing_but_its_length() {
    let (head, tail) = (
        "Summarize this report. ".repeat(80),
        " The end came early.".repeat(80),
    );
    let a = classify(&format!("{head}{}{tail}", "x".repeat(5000)), false);
    let b = classify(&format!("{head}{}{tail}", "?".repeat(5000)), false);
    assert_eq!(a, b);
}

#[test]
fn nothing_to_read_is_other() {
    for text in ["", " ", "\n\n\t"] {
        let got = classify(text, true);
        assert_eq!((got.kind, got.probability, got.tokens), (Other, 0.0, 0));
    }
    assert_eq!(classify_with(None, "Write a poem.", false).kind, Other);
}

proptest! {
    #[test]
    fn any_text_is_borne_and_gives_the_same_twice(text in "\\PC{0,400}|[\\x00-\\x7f]{0,400}", tools: bool) {
        let first = classify(&text, tools);
        prop_assert_eq!(first, classify(&text, tools));
        prop_assert!((0.0..=1.0).contains(&first.probability));
        prop_assert!(first.difficulty_score.is_finite());
    }

    #[test]
    fn cuts_fall_between_characters(char in any::<char>(), count in 0_usize..4000) {
        let text: String = std::iter::repeat_n(char, count).collect();
        let (head, tail) = excerpt(&text);
        prop_assert!(head.len() + tail.len() <= HEAD_BYTES + TAIL_BYTES);
        prop_assert!(text.starts_with(head) && text.ends_with(tail));
        prop_assert_eq!(classify(&text, false).truncated, text.len() > HEAD_BYTES + TAIL_BYTES);
    }

    #[test]
    fn probabilities_sum_to_one(text in ".{1,200}") {
        let all = built_in().expect("valid weights").probabilities(&features(&text));
        prop_assert!((all.iter().sum::<f32>() - 1.0).abs() < 1e-4);
        prop_assert_eq!(all[Other.index()], 0.0);
    }

    #[test]
    fn any_bytes_are_borne_as_weights(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Model::read(&bytes).is_err());
    }
}
