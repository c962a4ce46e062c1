//! Questions with a number, and answers that are judged at once: on a terminal a wrong one is asked for again, elsewhere it ends
//! there, because the answers that follow were meant for other questions.

use std::io;

use super::ConfigureError;
use crate::config::Diagnostic;
use crate::text::harmless::escaped;

/// Behind a longer question there is no room for an answer on a terminal of 80 columns.
const LONGEST_PROMPT: usize = 60;

/// Whoever answers.
pub trait Person {
    /// Shows the question and takes one line, which is not to be seen if it is `hidden`.
    ///
    /// # Errors
    /// When no line comes any more.
    fn answer(&mut self, question: &str, hidden: bool) -> io::Result<String>;

    /// Shows lines.
    fn tell(&mut self, text: &str);

    /// Shows what is wrong with an answer.
    fn object(&mut self, text: &str);

    /// Whether somebody is there who can answer once more.
    fn can_answer_again(&self) -> bool;
}

/// What speaks against an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objection {
    /// For somebody who has just typed it.
    message: String,
    /// For somebody who has to find it.
    whole: String,
}

impl From<String> for Objection {
    fn from(message: String) -> Self {
        Self { whole: message.clone(), message }
    }
}

impl From<&Diagnostic> for Objection {
    fn from(of: &Diagnostic) -> Self {
        Self { message: of.message.clone(), whole: of.shown() }
    }
}

/// A word that can be chosen, and what it means.
pub type Choice = (&'static str, &'static str);

/// A conversation.
pub struct Interview<'p> {
    person: &'p mut dyn Person,
    asked: usize,
}

impl<'p> Interview<'p> {
    /// With this person, from question 1 on.
    pub fn new(person: &'p mut dyn Person) -> Self {
        Self { person, asked: 0 }
    }

    /// Shows lines.
    pub fn tell(&mut self, text: &str) {
        self.person.tell(text);
    }

    /// The answer to which nobody objects; that which is offered where it is empty. `what` ends without a sign.
    pub fn ask(
        &mut self,
        what: &str,
        offered: &str,
        judge: impl FnMut(&str) -> Vec<Objection>,
    ) -> Result<String, ConfigureError> {
        self.question(what, offered, false, judge)
    }

    /// The same for what nobody should see.
    pub fn ask_hidden(
        &mut self,
        what: &str,
        judge: impl FnMut(&str) -> Vec<Objection>,
    ) -> Result<String, ConfigureError> {
        self.question(what, "", true, judge)
    }

    fn question(
        &mut self,
        what: &str,
        offered: &str,
        hidden: bool,
        mut judge: impl FnMut(&str) -> Vec<Objection>,
    ) -> Result<String, ConfigureError> {
        self.asked += 1;
        let offer = if offered.is_empty() { String::new() } else { format!(" [{}]", escaped(offered)) };
        let mut prompt = format!("{}. {what}{offer}: ", self.asked);
        if prompt.lines().last().is_some_and(|line| line.chars().count() > LONGEST_PROMPT) {
            prompt = format!("{}. {what}\n  {offer}: ", self.asked);
        }
        loop {
            let answer = self.line(&prompt, offered, hidden)?;
            let objections =
                if answer.is_empty() { vec!["an answer is needed".to_owned().into()] } else { judge(&answer) };
            if objections.is_empty() {
                return Ok(answer);
            }
            // The whole place of the fault: nobody is there to see which question it was.
            if !self.person.can_answer_again() {
                let told: Vec<_> = objections.into_iter().map(|it| it.whole).collect();
                return Err(ConfigureError::Wrong(told.join("\n")));
            }
            for objection in &objections {
                self.person.object(&objection.message);
            }
        }
    }

    /// Which of `choices` is taken, by its number or its word.
    pub fn choose(&mut self, what: &str, choices: &[Choice], offered: usize) -> Result<usize, ConfigureError> {
        self.asked += 1;
        let width = choices.iter().map(|(word, _)| word.len()).max().unwrap_or_default();
        let lines = (1..).zip(choices).map(|(number, (word, about))| format!("   {number}  {word:width$}  {about}\n"));
        self.person.tell(&format!("{}. {what}\n{}", self.asked, lines.collect::<String>()));
        let prompt = format!("   a number or a word [{}]: ", offered + 1);
        loop {
            let answer = self.line(&prompt, &(offered + 1).to_string(), false)?.to_lowercase();
            let by_number = answer.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
            let by_word = || choices.iter().position(|(word, _)| *word == answer);
            if let Some(chosen) = by_number.filter(|chosen| *chosen < choices.len()).or_else(by_word) {
                return Ok(chosen);
            }
            // What was answered before is not thrown away for a slip.
            self.person.object(&format!("found {answer:?}; answer a number from 1 to {}", choices.len()));
        }
    }

    /// Whether the answer is yes.
    pub fn agrees(&mut self, what: &str, offered: bool) -> Result<bool, ConfigureError> {
        let offered = if offered { "yes" } else { "no" };
        Ok(self.pick(what, &["yes", "no"], offered)? == "yes")
    }

    /// Which of these words is answered, or begun.
    pub fn pick<'w>(&mut self, what: &str, words: &[&'w str], offered: &'w str) -> Result<&'w str, ConfigureError> {
        self.asked += 1;
        let prompt = format!("{}. {what} [{offered}]: ", self.asked);
        loop {
            let answer = self.line(&prompt, offered, false)?.to_lowercase();
            // `y` and `n` are what people type.
            if let Some(word) = words.iter().find(|word| **word == answer || word.get(..1) == Some(&*answer)) {
                return Ok(word);
            }
            self.person.object(&format!("found {answer:?}; answer {}", words.join(" or ")));
        }
    }

    fn line(&mut self, prompt: &str, offered: &str, hidden: bool) -> Result<String, ConfigureError> {
        let line = self.person.answer(prompt, hidden).map_err(ConfigureError::NoAnswer)?;
        let line = line.trim();
        Ok(if line.is_empty() { offered.to_owned() } else { line.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::super::script::Script;
    use super::*;

    #[test]
    fn questions_are_numbered_plainly_and_one_that_is_asked_again_keeps_its_number() {
        let mut person = Script::at_a_terminal("\nlong\nshort\nNO\n7\nmqtt\n\n");
        let mut interview = Interview::new(&mut person);
        let judge = |answer: &str| if answer == "long" { vec!["too long".to_owned().into()] } else { Vec::new() };
        assert_eq!(interview.ask("name", "", judge).unwrap(), "short");
        assert!(!interview.agrees("again?", true).unwrap());
        assert_eq!(interview.choose("where?", &[("pattoo", "a"), ("mqtt", "b")], 0).unwrap(), 1);
        assert!(matches!(interview.agrees("more?", true), Ok(true)));
        assert!(matches!(interview.agrees("more?", true), Err(ConfigureError::NoAnswer(_))));
        let said = person.said();
        let begin =
            "1. name: an answer is needed\n1. name: too long\n1. name: 2. again? [yes]: 3. where?\n   1  pattoo  a\n";
        assert!(said.starts_with(begin), "{said}");
        assert!(said.contains("answer a number from 1 to 2") && said.contains("4. more? [yes]: 5. more?"), "{said}");
    }

    #[test]
    fn yes_and_no_are_understood_as_people_write_them() {
        for (answer, meant) in [("Yes", true), ("y", true), ("YES", true), ("yes", true), ("n", false), ("No", false)] {
            let mut person = Script::in_a_pipe(&format!("what\n {answer} \n"));
            assert_eq!(Interview::new(&mut person).agrees("right?", !meant).unwrap(), meant, "{answer}");
        }
    }

    #[test]
    fn where_nobody_can_answer_again_a_wrong_answer_ends_it() {
        let mut person = Script::in_a_pipe("wrong\nright\n");
        let ended = Interview::new(&mut person).ask("name", "", |_| vec!["found wrong".to_owned().into()]);
        assert!(matches!(ended, Err(ConfigureError::Wrong(why)) if why == "found wrong"));
    }
}
