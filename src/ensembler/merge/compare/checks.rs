//! What can be checked of an answer without knowing the right one: evidence on the quality of who gave it.

use serde_json::Value;

use super::{Declined, Form, code, declined, in_form, json, schema};

/// What was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Check {
    /// It says something, and not that it does not know.
    Answered,
    /// It does not refuse.
    NotRefused,
    /// It was not cut off.
    Whole,
    /// It is in the form the question asks for.
    InForm,
    /// The JSON parses.
    JsonParses,
    /// The JSON fits the schema.
    SchemaFits,
    /// The brackets and texts of the program close.
    CodeBalanced,
}

impl Check {
    /// Its name in traces and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::NotRefused => "not_refused",
            Self::Whole => "whole",
            Self::InForm => "in_form",
            Self::JsonParses => "json_parses",
            Self::SchemaFits => "schema_fits",
            Self::CodeBalanced => "code_balanced",
        }
    }
}

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub check: Check,
    /// Whether it is as it should be.
    pub passed: bool,
}

/// Every check that applies to an answer in this form. `format` is the query's response format and `finish` the reason
/// why the answer ended, both as the OpenAI wire writes them.
///
/// A refusal or an empty answer is found as such and not looked at further.
pub fn checks(
    answer: &str,
    form: &Form,
    format: Option<&Value>,
    finish: Option<&str>,
) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut add = |check, passed| found.push(Finding { check, passed });
    let declined = declined(answer, form);
    add(Check::Answered, declined != Some(Declined::Abstained));
    add(
        Check::NotRefused,
        declined != Some(Declined::Refused) && finish != Some("content_filter"),
    );
    if declined.is_some() {
        return found;
    }
    let fences = answer
        .lines()
        .filter(|line| line.trim_start().starts_with("```"))
        .count();
    add(Check::Whole, finish != Some("length") && fences % 2 == 0);
    match form {
        Form::Letter(_) | Form::Number(_) | Form::YesNo => {
            add(Check::InForm, in_form(answer, form))
        }
        Form::Json => {
            // Asked for JSON by the wire, prose round it is a fault: clients parse all of it.
            let value = match format {
                Some(_) => serde_json::from_str(answer.trim()).ok(),
                None => json::value(answer),
            };
            add(Check::JsonParses, value.is_some());
            let schema = format.and_then(|format| format.pointer("/json_schema/schema"));
            if let (Some(value), Some(schema)) = (value, schema) {
                add(Check::SchemaFits, schema::fits(&value, schema).is_ok());
            }
        }
        Form::Code => add(Check::CodeBalanced, code::balanced(&code::extract(answer))),
        Form::Free(_) | Form::Literal => {}
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn failed(
        answer: &str,
        form: &Form,
        format: Option<&Value>,
        finish: Option<&str>,
    ) -> Vec<&'static str> {
        let found = checks(answer, form, format, finish);
        found
            .iter()
            .filter(|f| !f.passed)
            .map(|f| f.check.name())
            .collect()
    }

    #[test]
    fn each_fault_is_found_by_its_check() {
        let free = Form::FREE;
        assert_eq!(failed("Paris", &free, None, Some("stop")), [""; 0]);
        assert_eq!(failed(" ", &free, None, None), ["answered"]);
        assert_eq!(
            failed("I cannot help with that.", &free, None, None),
            ["not_refused"]
        );
        assert_eq!(failed("Paris is", &free, None, Some("length")), ["whole"]);
        assert_eq!(failed("```\nx", &free, None, None), ["whole"]);
        assert_eq!(failed("some", &Form::Number(None), None, None), ["in_form"]);
        assert_eq!(
            failed("```\nf(a]\n```", &Form::Code, None, None),
            ["code_balanced"]
        );
        let format = json!({"type": "json_schema", "json_schema": {"schema": {"type": "object", "required": ["a"]}}});
        assert_eq!(
            failed("{\"a\":", &Form::Json, Some(&format), None),
            ["json_parses"]
        );
        assert_eq!(
            failed("{\"b\": 1}", &Form::Json, Some(&format), None),
            ["schema_fits"]
        );
        assert_eq!(
            failed("{\"a\": 1}", &Form::Json, Some(&format), None),
            [""; 0]
        );
        assert_eq!(failed("Here: {\"a\": 1}", &Form::Json, None, None), [""; 0]);
    }
}
