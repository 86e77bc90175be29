//! The words by which a kind of work is known.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::LazyLock;

/// Groups of words that say the same about a prompt, a bit each. `a_b` is a pair of neighbours.
pub(super) const CONCEPTS: [(&str, &str); 58] = [
    (
        "summarise",
        "summarize summarise summarizing summarising summary summaries tldr tl_dr condense abridge recap gist synopsis nutshell sum_up boil_down boils_down distill shorten key_points main_points takeaways takeaway abstract digest main_idea main_ideas in_short briefly zusammenfassung zusammen résumé résume resume resumen resume_el",
    ),
    ("headline", "headline title headlines subject_line titled"),
    (
        "translate",
        "translate translation translating translations translated translator übersetze übersetzen traduis traduire traduce traducir say_in 翻 译",
    ),
    (
        "tongue",
        "english french german spanish chinese japanese italian portuguese russian korean arabic hindi dutch latin swedish turkish polish greek hebrew vietnamese thai danish norwegian finnish mandarin esperanto czech ukrainian hungarian romanian indonesian swahili persian urdu bengali catalan irish welsh deutsch deutsche englische français anglais español inglés dialect",
    ),
    (
        "rewrite",
        "rewrite rephrase paraphrase reword proofread edit polish improve simplify formalize formalise revise rewriting rephrasing paraphrasing restate copyedit smoother clearer politer anonymize anonymise redact replace rewrote rephrased wording reformulate umformulieren formuliere",
    ),
    (
        "register",
        "formal informal concise polite professional tone friendly casual simpler grammar grammatical grammatically spelling punctuation typos mistakes passive_voice active_voice neutral_language gender_neutral past_tense present_tense third_person first_person synonym synonyms another_way different_words other_words own_words",
    ),
    (
        "extract",
        "extract extracting pull_out find_all list_all identify entities entity keywords named_entities mentions mentioned retrieve phone_numbers email_addresses dates extracted gathered concepts concept facts key_details pos part_of_speech tag tagging spans all_the every_name",
    ),
    (
        "classify",
        "classify classifying categorize categorise categorized label labels labelled category categories sentiment positive negative neutral spam toxic intent class polarity stance hateful offensive sarcastic clickbait belongs belong_to urgent flagged detect",
    ),
    (
        "verdict",
        "yes_or no_or yes_no true_or or_false or_no true_false is_this is_the does_this do_these are_these correct valid accurate validate verify likely_to decide determine whether judge rate rating stars score appropriate acceptable ethical",
    ),
    (
        "alike",
        "paraphrases duplicate duplicates same_meaning same_thing same_question equivalent entail entails entailment contradict contradicts contradiction similar equivalent mean_the meaning_as paraphrased express_the convey_the",
    ),
    (
        "review",
        "review reviewer reviews customer movie_review product_review enjoy enjoyed satisfied feedback opinion feel_about viewer tweet comment",
    ),
    (
        "write",
        "write compose draft craft create generate produce author pen come_up invent design make write_me writing wrote devise schreibe schreib écris écrire rédige escribe escribir 写",
    ),
    (
        "story",
        "story poem haiku sonnet song lyrics novel tale fable limerick screenplay verse rap plot character characters fictional fantasy protagonist monologue ballad rhyme rhyming bedtime narrative scene villain ending fiction opening_line opening_paragraph short_story sci_fi metaphor gedicht geschichte poème histoire cuento poema 诗 故事",
    ),
    (
        "joke",
        "joke jokes pun puns funny humorous humor witty knock_knock slogan slogans tagline catchy caption captions toast parody",
    ),
    (
        "prose",
        "essay letter email e_mail mail blog_post blog article speech description product_description advertisement ad newsletter cover_letter announcement press_release paragraph post memo invitation biography bio proposal pitch report obituary review_for message linkedin instagram resume_for travel_blog",
    ),
    (
        "role",
        "act_as pretend roleplay role_play role persona imagine_you you_are embody take_on play_the pretend_to in_character as_if assume_the stay_in impersonate respond_as answer_as speak_as talk_like speak_like stell_dir",
    ),
    (
        "imagine",
        "imagine imagining suppose what_if hypothetical hypothetically had_never never_been alternate_history if_there would_have had_won had_been could_have how_might how_would would_happen might_have counterfactual",
    ),
    (
        "program",
        "function functions program script code algorithm class method snippet api regex regexp query subroutine module parser server crawler scraper bot cli endpoint unit_test unit_tests pytest implementation data_structure website app webpage leetcode compiler microservice schema migration funktion fonction función 函数 代码 程序",
    ),
    (
        "codelang",
        "python java javascript c++ c rust html css typescript golang go bash shell react sql ruby php kotlin swift scala haskell perl lua node.js nodejs django flask pandas numpy julia matlab r c# powershell dockerfile kubernetes postgres postgresql mysql mongodb sqlite node js cpp",
    ),
    (
        "structure",
        "string strings array arrays list lists tuple tuples dictionary dictionaries linked_list binary_tree tree graph integer integers hashmap substring index indices element elements input output return returns recursion sorted iterate loop stack queue matrix nested given_list given_string file files",
    ),
    (
        "implement",
        "implement implementing refactor code_that optimize optimise port_this convert_this complete_this write_a write_code",
    ),
    (
        "debug",
        "bug bugs error errors exception traceback crash crashes crashing fails failing stack_trace undefined debug debugging segfault warning broken not_working doesn't_work panicked typeerror nullpointerexception keyerror indexerror valueerror attributeerror syntaxerror nameerror segmentation fault stacktrace deadlock leak throws expected_but fehler erreur unexpected why_does wrong_output",
    ),
    (
        "fix",
        "fix fixing fixed repair what's_wrong is_wrong went_wrong what_is wrong wrong_with find_the correct_the resolve solve_this can't_get not_work won't_compile compile hangs infinite_loop",
    ),
    (
        "solve",
        "solve calculate compute evaluate prove derive integrate differentiate find determine show_that simplify factor expand express_your berechne löse calcule calcula 计算",
    ),
    (
        "mathnoun",
        "equation polynomial triangle integer integers probability product remainder divisible root roots square circle radius angle angles perimeter area matrix derivative integral percent percentage fraction fractions prime sequence function_f digit digits coordinates hypotenuse rectangle cube volume sum median mean ratio logarithm vector vectors parabola factorial arithmetic geometric diagonal digit_number even odd real_numbers x y n sqrt multiply divided vertices",
    ),
    (
        "howmany",
        "how_many how_much how_far how_long how_old how_fast how_tall what_percentage combien cuántos cuántas wie_viele wie_viel 多少",
    ),
    (
        "quantity",
        "dollars dollar cents $ minutes hours days weeks months miles km kilometers meters inches feet pounds apples oranges cookies each per total twice half thrice times cost costs price pays paid earn earns sells sold buys bought left remaining altogether spend spends spent more_than less_than fewer profit discount change speed liters gallons grams ounces dozen every",
    ),
    (
        "ages",
        "years_old older younger age taller shorter heavier faster slower sister brother sisters brothers father mother son daughter cousin",
    ),
    (
        "puzzle",
        "puzzle riddle logic logical logically deduce infer inference reasoning knights knaves knight knave clue clues therefore conclude conclusion premise premises syllogism left_of right_of houses house row sits seated lives overtake race position weighs liar truth_teller next_to directly adjacent immediately all_of none_of some_of if_all can_we must_be",
    ),
    (
        "estimate",
        "estimate guess approximately roughly average_human in_a_lifetime lifetime ballpark order_of fermi how_many in_the_world",
    ),
    (
        "commonsense",
        "where_would what_would what_could why_would where_do where_might what_might likely probably someone somebody person people if_you would_you what_do what_does what_is_likely purpose might_be might_you would_a would_someone could_you would_be could_be",
    ),
    (
        "passage",
        "passage article paragraph text context document excerpt background snippet_below story_below transcript plot bio news chapter section absatz texte texto",
    ),
    (
        "pointer",
        "below following above according_to based_on given the_following this_text using_the from_the in_the_following folgenden suivant siguiente these",
    ),
    (
        "question",
        "question questions answer answers answering answered respond frage question_based the_question no_answer answerable",
    ),
    (
        "sentence",
        "sentence sentences phrase phrases word words line lines",
    ),
    (
        "talk",
        "dialogue dialog conversation chat_log transcript speaker discussion meeting_notes",
    ),
    ("what", "what what's was que qué quel quelle quelles 什么"),
    (
        "whofact",
        "who when where which whom whose wer wann wo qui quand où quién cuándo dónde 谁 哪",
    ),
    (
        "why",
        "why how_come reason reasons warum pourquoi por_qué 为",
    ),
    ("how", "how wie comment cómo 怎 如何"),
    (
        "explain",
        "explain describe define discuss difference differences definition compare contrast elaborate outline_the overview significance importance theory concept_of process role_of causes effects implications principles briefly_explain explains explaining erkläre explique explica 解释",
    ),
    (
        "advice",
        "should recommend recommendation recommendations suggest suggestion suggestions advice tips tip advise ideas plan itinerary ways_to best_way how_can how_do cope help_me improve_my checklist recipe pros cons worth_it strategies effective_ways steps_to routine diet hobby habit habits motivate motivated advantages tipps conseils consejos 建议",
    ),
    (
        "smalltalk",
        "hi hello hey thanks thank thank_you good_morning good_evening how_are nice_to bored lonely sad happy feeling i'm_feeling today's favorite favourite do_you tell_me bye lol hallo danke bonjour merci hola gracias 你好 谢",
    ),
    (
        "myself",
        "i i'm i've my me mine i'd i'll ich mein mir je mon ma yo mi 我",
    ),
    ("you", "you your you're yourself yours"),
    (
        "device",
        "alarm timer remind reminder reminders music volume turn_on turn_off lights light call calendar schedule uber taxi weather playlist song traffic directions phone whisper_mode speaker thermostat radio podcast set_a set_the set_my snooze mute pause skip next_song location share_my language_to change_your sync wake_me do_not",
    ),
    (
        "account",
        "account card bank pay bill bills balance transfer credit_card credit debit checking savings apr interest_rate rewards credit_limit pto payday direct_deposit vacation_days vacation routing_number pin insurance transaction transactions fraud w2 401k income payment due freeze loan limit order_more spending application",
    ),
    (
        "errand",
        "book order reserve reservation buy cancel flight hotel restaurant table_for ticket tickets car_rental rental oil tire gas luggage carry_on travel_alert visa vaccines plug timezone time_zone exchange_rate meeting shopping_list to_do todo list add remove check look_up find_me show_me tell_me confirm let_me can_you could_you need_to i_need",
    ),
    (
        "toolspec",
        "tools tool function_call function_calls tool_call tool_calls available_tools parameters arguments json_schema search_the search_web browse browser api_call invoke call_the get_weather web_search following_tools following_functions access_to workspace repository terminal execute run_the",
    ),
    (
        "data",
        "data dataset csv table column columns rows spreadsheet average trend trends correlation sales revenue chart plot histogram quarter quarterly distribution outliers regression growth statistics excel pivot survey_results figures year_over dataframe anomaly anomalies variance standard_deviation metrics monthly daten tabelle tableau datos",
    ),
    (
        "analyse",
        "analyze analyse analysis interpret insights visualize visualise patterns group_by aggregate conclusions highest lowest top_three compare_the forecast calculate_the",
    ),
    (
        "format",
        "json bullet bullets markdown format yaml xml numbered comma_separated one_word single_word return_the output_only respond_with key_value",
    ),
    (
        "options",
        "choose options option select pick choices choice best_answer which_of one_of either multiple_choice",
    ),
    (
        "polite",
        "please can_you could_you would_you kindly i_want i_would i'd_like i_need bitte s'il por_favor 请",
    ),
    (
        "history",
        "won released founded invented discovered president capital war born died country king queen first season episode album film actor actress singer century band team wrote written played plays sang sings located signed started began elected league olympic olympics minister prime_minister novel_by city river name_of which_country which_city british american world_cup made come_out come_from known_as character_in",
    ),
    (
        "science",
        "cells cell energy plants animals species temperature scientists experiment planet sun earth atom atoms molecules force gas liquid rock soil heat water organism organisms ecosystem chemical reaction bacteria virus gravity light_waves electrons dna theory quantum evolution climate best_explains scientist investigation",
    ),
    (
        "example",
        "example examples for_example e.g such_as instance few_shot input: sample",
    ),
    (
        "combine",
        "concepts_to to_form form_a string_together coherent put_the using_these with_the_words words: containing_the contains combine into_a turn_these bullet_points facts_into complete_the continue fill_in finish",
    ),
];

/// Takes a hash as its own hash.
#[derive(Default)]
pub(super) struct Ready(u64);

impl Hasher for Ready {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    fn write_u32(&mut self, hash: u32) {
        self.0 = u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

type Table = HashMap<u32, u64, BuildHasherDefault<Ready>>;

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut table = Table::default();
    for (bit, (_, words)) in CONCEPTS.iter().enumerate() {
        for word in words.split_whitespace() {
            let key = match word.split_once('_') {
                Some((first, second)) => pair(hash(first), hash(second)),
                None => hash(word),
            };
            *table.entry(key).or_default() |= 1 << bit;
        }
    }
    table
});

/// The concepts a word, or a pair of words, stands for.
#[inline]
pub(super) fn concepts(key: u32) -> u64 {
    TABLE.get(&key).copied().unwrap_or(0)
}

/// The bit of a concept by its name; 0 for no such concept.
pub(super) fn bit(name: &str) -> u64 {
    CONCEPTS
        .iter()
        .position(|(known, _)| *known == name)
        .map_or(0, |at| 1 << at)
}

/// FNV-1a over a lower-cased word (G. Fowler, L. C. Noll, K.-P. Vo, 1991).
#[inline]
pub(super) fn hash(word: &str) -> u32 {
    word.bytes().fold(0x811c_9dc5, step)
}

/// One step of [`hash`].
#[inline]
pub(super) fn step(state: u32, byte: u8) -> u32 {
    (state ^ u32::from(byte)).wrapping_mul(0x0100_0193)
}

/// The hash of two neighbours, order counting.
#[inline]
pub(super) fn pair(first: u32, second: u32) -> u32 {
    (first.rotate_left(7) ^ second.wrapping_mul(0x85eb_ca6b))
        .wrapping_mul(0xc2b2_ae35)
        .rotate_left(13)
}
