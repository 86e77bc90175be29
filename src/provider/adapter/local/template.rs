//! How a conversation is written for the model: the chat template of its file, rendered.

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value, context};

use crate::query::{Message, Role};

/// For files without a template: ChatML, which most small instruction models were trained with.
const CHAT_ML: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n\
    {{ message.content }}<|im_end|>\n{% endfor %}{{ '<|im_start|>assistant\n' }}";

/// A compiled chat template.
pub(super) struct Template {
    environment: Environment<'static>,
    bos: String,
    eos: String,
    system: Option<&'static str>,
}

impl Template {
    /// Compiles `source`, written in the subset of Jinja that chat templates use; `bos` and `eos` are the texts
    /// of the tokens that begin and end a conversation. A conversation without an operator begins with `system`.
    pub(super) fn new(
        source: Option<&str>,
        bos: String,
        eos: String,
        system: Option<&'static str>,
    ) -> Result<Self, Error> {
        let mut environment = Environment::new();
        // As the transformers library, whose templates these are, sets it.
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()?;
        environment.set_syntax(syntax);
        environment.add_function("raise_exception", |text: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, text))
        });
        environment.add_template_owned("chat", source.unwrap_or(CHAT_ML).to_owned())?;
        Ok(Self {
            environment,
            bos,
            eos,
            system,
        })
    }

    /// The conversation as text that ends where the assistant's answer begins.
    pub(super) fn render(&self, messages: &[Message]) -> Result<String, Error> {
        let silent = messages
            .first()
            .is_none_or(|message| role(message.role) != "system");
        let system = self.system.filter(|_| silent).map(Message::system);
        let messages: Vec<Value> = system
            .iter()
            .chain(messages)
            .map(|message| context! { role => role(message.role), content => message.text() })
            .collect();
        self.environment.get_template("chat")?.render(context! {
            messages,
            add_generation_prompt => true,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
        })
    }
}

/// Templates know neither the newer word for the operator nor the older one for a tool.
fn role(role: Role) -> &'static str {
    match role {
        Role::System | Role::Developer => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool | Role::Function => "tool",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::{Content, Part};

    fn render(source: Option<&str>, messages: &[Message]) -> Result<String, Error> {
        Template::new(source, "<s>".into(), "</s>".into(), None)?.render(messages)
    }

    #[test]
    fn without_a_template_the_conversation_is_chat_ml() {
        let messages = [
            Message::new(Role::Developer, "Be terse."),
            Message::user("Hi {{ x }}"),
        ];
        let expected = "<|im_start|>system\nBe terse.<|im_end|>\n\
            <|im_start|>user\nHi {{ x }}<|im_end|>\n<|im_start|>assistant\n";
        assert_eq!(render(None, &messages).unwrap(), expected);
    }

    #[test]
    fn a_template_sees_roles_contents_tokens_and_the_wish_for_an_answer() {
        let source = "{{ bos_token }}{% for message in messages %}\n  \
            {% if loop.first and messages[0]['role'] != 'system' %}[none]{% endif %}\n\
            {{ '<' + message['role'] + '>' + message['content'] + eos_token }}{% endfor %}\n\
            {% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}";
        let rendered = render(Some(source), &[Message::user("Hi")]).unwrap();
        assert_eq!(rendered, "<s>[none]<user>Hi</s><assistant>");
    }

    #[test]
    fn the_models_own_operator_speaks_only_where_the_conversation_has_none() {
        let template = Template::new(None, String::new(), String::new(), Some("Be kind.")).unwrap();
        let of = |messages: &[Message]| {
            template
                .render(messages)
                .unwrap()
                .matches("Be kind.")
                .count()
        };
        assert_eq!(of(&[Message::user("Hi")]), 1);
        assert_eq!(
            of(&[
                Message::new(Role::Developer, "Be terse."),
                Message::user("Hi")
            ]),
            0
        );
    }

    #[test]
    fn parts_of_text_are_joined() {
        let content = Content::Parts(vec![Part::text("a"), Part::text("b")]);
        let message = Message {
            content: Some(content),
            ..Message::default()
        };
        let source = "{% for message in messages %}{{ message.content }}{% endfor %}";
        assert_eq!(render(Some(source), &[message]).unwrap(), "a\nb");
    }

    #[test]
    fn a_template_that_refuses_the_conversation_says_why() {
        let source = "{{ raise_exception('roles must alternate') }}";
        let error = render(Some(source), &[Message::user("Hi")]).unwrap_err();
        assert!(
            error.to_string().contains("roles must alternate"),
            "{error}"
        );
    }

    #[test]
    fn a_broken_template_is_refused_before_any_conversation() {
        assert!(Template::new(Some("{% for %}"), String::new(), String::new(), None).is_err());
    }
}
