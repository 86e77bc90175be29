use proptest::prelude::*;

use super::*;

fn votes<'a>(texts: &[&'a str]) -> Vec<Vote<'a>> {
    let vote = |(order, &text)| Vote {
        text,
        quality: 0.5,
        family: None,
        vector: None,
        order,
    };
    texts.iter().enumerate().map(vote).collect()
}

/// The groups as sets of texts, in the order of letters.
fn partition(texts: &[&str], form: &Form) -> Vec<Vec<String>> {
    let votes = votes(texts);
    let mut groups: Vec<Vec<String>> = group(&votes, form, None)
        .iter()
        .map(|group| {
            let mut members: Vec<String> = group
                .members
                .iter()
                .map(|&m| votes[m].text.to_owned())
                .collect();
            members.sort_unstable();
            members
        })
        .collect();
    groups.sort_unstable();
    groups
}

fn choice() -> Form {
    Form::of(
        "Which is the capital of Italy?\nA) Paris\nB) Rome\nC) Oslo\nD) Bonn",
        None,
    )
}

#[test]
fn real_looking_answers_that_say_the_same() {
    let capital = Form::of("What is the capital of France?", None);
    let percent = Form::of("What percentage of the class passed?", None);
    let apples = Form::of("How many apples does she have left?", None);
    let truth = Form::of("Is 7 a prime? Answer true or false.", None);
    let cases: &[(&Form, &[&str])] = &[
        (
            &Form::FREE,
            &[
                "Paris",
                "paris.",
                "**Paris**",
                "\"Paris\"",
                "```\nParis\n```",
                "The answer is Paris.",
                "Answer: Paris",
            ],
        ),
        (
            &capital,
            &[
                "Paris",
                "The capital of France is Paris.",
                "It is Paris.",
                "It's **Paris**",
                "The capital of France is **Paris**.",
            ],
        ),
        (
            &Form::FREE,
            &[
                "42",
                "The answer is 42. I hope this helps!",
                "\\boxed{42}",
                "**42**",
                "42.0",
                "$42$",
                "x = 42",
                "So the answer is: $42$",
                "forty-two",
            ],
        ),
        (
            &Form::FREE,
            &[
                "\\boxed{\\frac{3}{4}}",
                "3/4",
                "0.75",
                "75%",
                "x = 0.75",
                "\\(\\dfrac{3}{4}\\)",
                "The final answer is $\\frac34$.",
            ],
        ),
        (
            &Form::FREE,
            &[
                "\\boxed{\\frac{\\sqrt{3}}{2}}",
                "$\\dfrac{\\sqrt3}{2}$",
                "sqrt(3)/2",
            ],
        ),
        (&Form::FREE, &["$(1, 2)$", "\\boxed{\\left(1,2\\right)}"]),
        (&Form::FREE, &["$x = 5, y = 6$", "\\(x=5,\\ y=6\\)"]),
        (
            &Form::FREE,
            &["$1,234.50", "1234.5", "\\$1,234.50", "1,234.50 dollars"],
        ),
        (
            &percent,
            &[
                "75%",
                "75",
                "75 percent",
                "The answer is 75%.",
                "Exactly 75 %.",
            ],
        ),
        (
            &apples,
            &[
                "5",
                "five",
                "5 apples",
                "She has 5 apples left.",
                "10 - 5 = 5",
                "12 - 7 = 5 apples\n\nShe has **5** apples left.",
                "#### 5",
            ],
        ),
        (
            &truth,
            &[
                "True",
                "true.",
                "Yes",
                "**True**, since it has no divisors.",
                "The answer is: True",
                "Yes, it is.",
            ],
        ),
        (
            &choice(),
            &[
                "B",
                "(B)",
                "B) Rome",
                "The answer is (B) because it is.",
                "Rome",
                "\\boxed{B}",
                "**B**",
            ],
        ),
        (
            &Form::Json,
            &[
                "{\"a\": 1, \"b\": [true]}",
                "```json\n{\"b\":[true],\n\"a\":1.0}\n```",
                "Here you are: {\"a\": 1, \"b\": [true]}.",
            ],
        ),
        (&Form::FREE, &["{\"a\": 1, \"b\": 2}", "{\"b\":2,\"a\":1}"]),
        (&Form::Literal, &["['a', 1]", "[\"a\",1]", "`['a', 1]`"]),
        (
            &Form::Code,
            &[
                "```rust\nfn f(x: u8) -> u8 { x + 1 } // next\n```\nIt adds.",
                "```\nfn f(x: u8) -> u8 {\n    x + 1\n}\n```",
            ],
        ),
        (&Form::FREE, &["I don't know.", "", "Not sure."]),
        (
            &Form::FREE,
            &[
                "I cannot help with that.",
                "I'm sorry, but I can't assist with this.",
            ],
        ),
    ];
    for (form, answers) in cases {
        for a in *answers {
            for b in *answers {
                assert!(same(a, b, form), "{a} | {b}");
            }
        }
        assert_eq!(partition(answers, form).len(), 1);
    }
}

#[test]
fn what_says_something_else_is_never_joined() {
    let apples = Form::of("How many apples does she have left?", None);
    let long = "The project was finished by the northern team in spring because the weather was mild, the budget was large \
        enough, and the suppliers delivered every part before the agreed date without a single complaint from builders, so that \
        the owners could move in during summer and celebrate together with everyone who helped";
    let changed = [
        long.replace("spring", "2019"),
        long.replace("was finished", "was not finished"),
        long.replace("before", "after"),
        long.replace("large", "small"),
        long.replace("team", "team of Alice"),
    ];
    let free = [
        ("Paris", "Rome"),
        ("yes", "no"),
        ("true", "false"),
        ("42", "43"),
        ("42", "-42"),
        ("0.5", "0.05"),
        ("50", "50%"),
        ("increase", "decrease"),
        ("The price will increase.", "The price will decrease."),
        ("Paris", "not Paris"),
        ("5 km", "5 miles"),
        ("5", "5 km"),
        ("$5", "\u{20ac}5"),
        ("1/3", "0.33"),
        ("3.14", "\\pi"),
        ("2024-01-05", "2024-05-01"),
        ("\\sqrt{2}", "\\sqrt{3}"),
        ("\\frac{1}{2}", "\\frac{2}{1}"),
        ("x^2", "x^3"),
        ("(1, 2)", "(2, 1)"),
        ("[1, 2]", "[2, 1]"),
        ("[1, 2]", "(1, 2)"),
        ("{\"a\": 1}", "{\"a\": \"1\"}"),
        ("{\"a\": 1}", "{\"a\": 1, \"b\": 2}"),
        ("A", "B"),
        ("The answer is 5.", "The answer is 6."),
        ("The answer is not 5", "The answer is 5"),
        ("I don't know.", "I cannot help with that."),
        ("5!", "5"),
        ("007", "7"),
        ("10 m^2", "10 m"),
        ("3-4", "-1"),
        ("Version 1.2", "Version 1.20"),
        ("Bob beat Al", "Al beat Bob"),
        ("", "Paris"),
        ("3:4", "3/4"),
        ("1e3", "1e-3"),
        ("even", "odd"),
        ("Monday", "Tuesday"),
        ("a or b", "a and b"),
        ("5 minutes", "5 hours"),
        ("C", "C++"),
        ("-x", "x"),
        ("x", "x'"),
        ("< 5", "> 5"),
        ("<= 5", "< 5"),
    ];
    let number = [
        ("5 apples", "6 apples"),
        ("at least 5", "5"),
        ("She has 5 or 6.", "5"),
        ("It is not 5.", "5"),
        ("5 more than 6", "5"),
    ];
    let letter = [
        ("A", "B"),
        ("(A) Paris", "(B) Rome"),
        ("Not A", "A"),
        ("A or B", "A"),
        ("Rome", "Oslo"),
        ("A and C", "A"),
    ];
    let literal = [
        ("Abc", "abc"),
        ("ab", "ab "),
        ("True", "true"),
        ("'a' 'b'", "'a''b'"),
        ("no", "No"),
    ];
    for (pairs, form) in [
        (&free[..], &Form::FREE),
        (&number, &apples),
        (&letter, &choice()),
        (&literal, &Form::Literal),
    ] {
        for (a, b) in pairs {
            assert!(!same(a, b, form), "{a} | {b}");
            assert!(!matches(a, b, form), "{a} | {b}");
        }
    }
    for other in &changed[..4] {
        assert!(!same(long, other, &Form::FREE), "{other}");
    }
    assert!(same(long, &long.replace("mild", "calm"), &Form::FREE));
}

#[test]
fn vectors_join_only_what_the_letters_allow() {
    let texts = [
        "It rose by five percent",
        "By 5 % overall: so much it rose within that time",
        "It fell by five percent",
        "Paris",
        "Rome",
    ];
    let votes = votes(&texts);
    let near = Similarity::of(5, 0.7, |_, _| 0.99);
    let groups = group(&votes, &Form::FREE, Some(&near));
    let members: Vec<&[usize]> = groups
        .iter()
        .map(|group| group.members.as_slice())
        .collect();
    assert_eq!(members, [&[0, 1][..], &[2], &[3], &[4]]);
    let far = Similarity::of(5, 0.7, |_, _| f64::NAN);
    assert_eq!(group(&votes, &Form::FREE, Some(&far)).len(), 5);
}

#[test]
fn who_declines_weighs_nothing_as_long_as_anyone_answers() {
    let texts = [
        "I don't know.",
        "I cannot help with that.",
        "",
        "Paris",
        "I can't assist with that.",
    ];
    let voted = votes(&texts);
    let groups = group(&voted, &Form::FREE, None);
    let weights: Vec<(Vec<usize>, f64)> =
        groups.into_iter().map(|g| (g.members, g.weight)).collect();
    assert_eq!(
        weights,
        [(vec![0, 2], 0.0), (vec![1, 4], 0.0), (vec![3], 1.0)]
    );
    for strategy in [
        crate::ensembler::merge::Strategy::Plurality,
        crate::ensembler::merge::Strategy::Weighted,
    ] {
        let merged = crate::ensembler::merge::merge(strategy, &voted, &Form::FREE).unwrap();
        assert_eq!(voted[merged.winner].text, "Paris");
    }
    assert!(!decided(&votes(&texts[..3]), &Form::FREE, false, 1));
    let groups = group(&votes(&texts[..3]), &Form::FREE, None);
    assert_eq!(groups[0].weight, 2.0);
}

#[test]
fn a_group_speaks_in_the_letters_that_most_members_gave() {
    let mut voted = votes(&["[1,2]", "[1, 2]", "[1, 2]", "[ 1,2 ]"]);
    voted[0].quality = 0.9;
    voted[2].quality = 0.6;
    assert_eq!(spokesman(&voted, &[0, 1, 2, 3]), Some(2));
    assert_eq!(spokesman(&voted, &[0, 1, 3]), Some(0));
    assert_eq!(spokesman(&voted, &[]), None);
}

#[test]
fn an_answer_matches_its_reference() {
    let apples = Form::of("How many apples are left?", None);
    assert!(matches("5", "So 5 apples are left.", &apples));
    assert!(matches("", "", &Form::FREE));
    assert!(matches("I don't know", "I don't know", &Form::FREE));
    assert!(!matches("I don't know", "", &Form::FREE));
    assert!(matches("b", "The answer is (B).", &choice()));
    assert!(!matches("ab", "ab ", &Form::Literal));
    assert_eq!(letter("The answer is (B).", &choice()), Some('b'));
}

const TEXTS: [&str; 24] = [
    "Paris",
    "paris.",
    "**Paris**",
    "Rome",
    "42",
    "42.0",
    "The answer is 42.",
    "3/4",
    "0.75",
    "75%",
    "{\"a\": 1}",
    "{\"a\":1.0}",
    "I don't know.",
    "",
    "I cannot help with that.",
    "B",
    "(B)",
    "B) Rome",
    "['a', 1]",
    "[\"a\",1]",
    "Yes, it is.",
    "true",
    "```\nf(x)\n```",
    "5 km",
];

fn forms() -> impl Strategy<Value = Form> {
    prop_oneof![
        Just(Form::FREE),
        Just(choice()),
        Just(Form::Number(None)),
        Just(Form::Number(Unit::named("percent"))),
        Just(Form::YesNo),
        Just(Form::Literal),
        Just(Form::Json),
        Just(Form::Code),
        Just(Form::Free(Some("capital of france".into()))),
    ]
}

fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(&TEXTS[..]).prop_map(str::to_owned),
        "\\PC{0,40}",
        "[-*_`\"'$.,!?\\\\{}()\\[\\]:=/%^ boxedfrac 0-9B\n]{0,60}",
        "(The |answer |is |not |five |B |\\(A\\) |42 |Yes |I |don't |know |\\. ){0,12}",
        ".{100,160}",
    ]
}

proptest! {
    #[test]
    fn any_two_texts_are_borne_and_sameness_is_reflexive_and_symmetric(
        a in texts(), b in texts(), form in forms(),
    ) {
        prop_assert!(same(&a, &a, &form));
        prop_assert!(matches(&a, &a, &form));
        prop_assert_eq!(same(&a, &b, &form), same(&b, &a, &form));
        checks::checks(&a, &form, None, None);
    }

    #[test]
    fn sameness_is_an_equivalence_for_all_but_long_prose(
        picks in proptest::collection::vec(proptest::sample::select(&TEXTS[..]), 3), form in forms(),
    ) {
        if same(picks[0], picks[1], &form) && same(picks[1], picks[2], &form) {
            prop_assert!(same(picks[0], picks[2], &form));
        }
    }

    #[test]
    fn surrounding_space_says_nothing(text in texts(), form in forms()) {
        if form != Form::Literal {
            prop_assert!(same(&text, &format!(" \n{text}\n"), &form), "{text:?}");
        }
    }

    #[test]
    fn groups_do_not_depend_on_the_order_of_the_votes(
        given in proptest::collection::vec(texts(), 0..9), keys in proptest::collection::vec(any::<u64>(), 9), form in forms(),
    ) {
        let given: Vec<&str> = given.iter().map(String::as_str).collect();
        let mut shuffled: Vec<(u64, &str)> = keys.into_iter().zip(given.clone()).collect();
        shuffled.sort_unstable();
        let shuffled: Vec<&str> = shuffled.into_iter().map(|(_, text)| text).collect();
        prop_assert_eq!(partition(&given, &form), partition(&shuffled, &form));
    }

    #[test]
    fn prose_is_grouped_in_any_order_alike_and_never_with_what_contradicts(
        swaps in proptest::collection::vec((0usize..24, 0usize..8), 2..8), keys in proptest::collection::vec(any::<u64>(), 8),
    ) {
        let base: Vec<String> = (0..30).map(|i| format!("word{}", (b'a' + i) as char)).collect();
        let given: Vec<String> = swaps.iter().map(|&(at, with)| {
            let mut words = base.clone();
            for word in words.iter_mut().skip(at).take(with) {
                word.push('x');
            }
            words.push(if with % 3 == 0 { "until 5".into() } else { "until 6".into() });
            words.join(" ")
        }).collect();
        let given: Vec<&str> = given.iter().map(String::as_str).collect();
        let mut shuffled: Vec<(u64, &str)> = keys.into_iter().zip(given.clone()).collect();
        shuffled.sort_unstable();
        let shuffled: Vec<&str> = shuffled.into_iter().map(|(_, text)| text).collect();
        let voted = votes(&given);
        let (so_far, rest) = voted.split_at(voted.len() / 2 + 1);
        if decided(so_far, &Form::FREE, false, rest.len()) {
            let most = |votes: &[Vote<'_>]| {
                let groups = group(votes, &Form::FREE, None);
                groups.into_iter().max_by(|a, b| a.weight.total_cmp(&b.weight)).unwrap()
            };
            let (now, then) = (most(so_far), most(&voted));
            prop_assert!(then.members.iter().any(|member| now.members.contains(member)));
        }
        let groups = partition(&given, &Form::FREE);
        prop_assert_eq!(&groups, &partition(&shuffled, &Form::FREE));
        for group in groups {
            prop_assert!(group.iter().all(|text| text.ends_with('5') == group[0].ends_with('5')));
        }
    }

    #[test]
    fn what_is_decided_stays_decided(
        given in proptest::collection::vec(proptest::sample::select(&TEXTS[..]), 1..9), arrived in 0usize..9, form in forms(),
    ) {
        let voted = votes(&given);
        let (so_far, outstanding) = voted.split_at(arrived.min(voted.len()));
        if decided(so_far, &form, false, outstanding.len()) {
            let most = |votes: &[Vote<'_>]| {
                let groups = group(votes, &form, None);
                let leader = groups.iter().max_by(|a, b| a.weight.total_cmp(&b.weight)).unwrap();
                votes[leader.members[0]].text.to_owned()
            };
            prop_assert!(same(&most(so_far), &most(&voted), &form));
        }
    }
}
