//! How deep `[` and `{` nest in a YAML text, found out before a parser sees it. Pure; linear in the length of the text.
//!
//! The parser's scanner looks at every open bracket for each token: 50,000 brackets that nobody closes cost it seconds,
//! a megabyte of them minutes, and only then does it say that they are too many. Counting brackets without regard to
//! quotes, comments and texts over several lines would miss what is hidden in them. So this is that scanner (libyaml
//! 0.2.5) once more, without values: where tokens begin, how far blocks are indented, what is a key. Where the parser
//! ends with an error this ends too, and what was found by then is all that the parser could have met.

/// Deeper than any configuration, and what the parser still reads in no time.
pub const MOST: usize = 64;

/// More `%` directives than any file has: each is compared with all before.
const MOST_DIRECTIVES: usize = 8;

/// Keys that are no longer than this may be written without `?`.
const LONGEST_KEY: usize = 1024;

/// What must not be given to the parser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excess {
    /// Brackets within brackets, at this line and column.
    Brackets(usize, usize),
    /// Lines that begin with `%`, at this line.
    Directives(usize),
}

/// Where `text` exceeds what the parser is given.
pub fn excess(text: &str) -> Option<Excess> {
    let mut scanner = Scanner::new(text);
    // Looked at after each token: the scan of a hostile text ends where the parser would begin to be slow.
    while scanner.token().is_some() {
        // One is the block's own.
        if scanner.keys.len() > MOST + 1 {
            return Some(Excess::Brackets(scanner.line + 1, scanner.column));
        }
        if scanner.directives > MOST_DIRECTIVES {
            return Some(Excess::Directives(scanner.line + 1));
        }
    }
    None
}

/// What may turn out to be a key when a `:` comes.
#[derive(Debug, Clone, Copy)]
struct Key {
    at: usize,
    line: usize,
    column: i64,
}

struct Scanner {
    text: Vec<char>,
    at: usize,
    line: usize,
    column: usize,
    /// The column of the innermost block.
    indent: i64,
    /// Those of the blocks around it.
    indents: Vec<i64>,
    /// One of the block, and one for each open bracket.
    keys: Vec<Option<Key>>,
    key_allowed: bool,
    directives: usize,
}

impl Scanner {
    fn new(text: &str) -> Self {
        Self {
            text: text.chars().collect(),
            at: 0,
            line: 0,
            column: 0,
            indent: -1,
            indents: Vec::new(),
            keys: vec![None],
            key_allowed: true,
            directives: 0,
        }
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.text.get(self.at + ahead).copied()
    }

    fn is_break(&self) -> bool {
        self.peek(0).is_some_and(is_break)
    }

    fn is_blank(&self) -> bool {
        matches!(self.peek(0), Some(' ' | '\t'))
    }

    /// Whether a word ends here.
    fn ends(&self, ahead: usize) -> bool {
        // libyaml takes a NUL for the end of the text.
        self.peek(ahead).is_none_or(|character| matches!(character, ' ' | '\t' | '\0') || is_break(character))
    }

    fn in_brackets(&self) -> bool {
        self.keys.len() > 1
    }

    fn skip(&mut self) {
        self.at += 1;
        self.column += 1;
    }

    fn skip_break(&mut self) {
        self.at += if self.peek(0) == Some('\r') && self.peek(1) == Some('\n') { 2 } else { 1 };
        (self.line, self.column) = (self.line + 1, 0);
    }

    fn skip_line(&mut self) {
        while self.peek(0).is_some() && !self.is_break() {
            self.skip();
        }
    }

    fn column(&self) -> i64 {
        i64::try_from(self.column).unwrap_or(i64::MAX)
    }

    /// `---` or `...` at the beginning of a line.
    fn is_document_mark(&self) -> bool {
        let mark = [self.peek(0), self.peek(1), self.peek(2)];
        self.column == 0 && (mark == [Some('-'); 3] || mark == [Some('.'); 3]) && self.ends(3)
    }

    /// One token; `None` at the end, or where the parser gives up.
    fn token(&mut self) -> Option<()> {
        // The order of `yaml_parser_fetch_next_token`: what comes first here decides what a character is.
        self.skip_to_token();
        self.unroll(self.column());
        let first = self.peek(0)?;
        match first {
            '%' if self.column == 0 => {
                self.directives += 1;
                self.unroll(-1);
                self.key_allowed = false;
                self.skip_line();
            }
            '-' | '.' if self.is_document_mark() => {
                self.unroll(-1);
                self.forget_key();
                self.key_allowed = false;
                (0..3).for_each(|_| self.skip());
            }
            // One level for both: which bracket closes which is a matter of libyaml's parser, not of its scanner.
            '[' | '{' => {
                self.save_key();
                self.keys.push(None);
                self.key_allowed = true;
                self.skip();
            }
            ']' | '}' => {
                self.forget_key();
                // A bracket that closes nothing is an error of the parser, not of the scanner: to go on can only find
                // more.
                if self.in_brackets() {
                    self.keys.pop();
                }
                self.key_allowed = false;
                self.skip();
            }
            ',' => {
                self.forget_key();
                self.key_allowed = true;
                self.skip();
            }
            '-' if self.ends(1) => {
                self.block(self.column())?;
                self.forget_key();
                self.key_allowed = true;
                self.skip();
            }
            // An explicit key; behind it another one may begin on the same line, but not within brackets.
            '?' if self.in_brackets() || self.ends(1) => {
                self.block(self.column())?;
                self.forget_key();
                self.key_allowed = !self.in_brackets();
                self.skip();
            }
            ':' if self.in_brackets() || self.ends(1) => {
                // What stood before was a key, and the block that it begins is as deep as the key, not as this sign.
                if let Some(key) = self.keys.last_mut().and_then(Option::take) {
                    self.roll(key.column);
                    self.key_allowed = false;
                } else {
                    self.block(self.column())?;
                    self.key_allowed = !self.in_brackets();
                }
                self.skip();
            }
            '*' | '&' => {
                self.start_word();
                self.skip();
                // What may follow the name is not checked: where libyaml ends with an error this only goes on for
                // longer.
                while self.peek(0).is_some_and(|it| it.is_ascii_alphanumeric() || matches!(it, '_' | '-')) {
                    self.skip();
                }
            }
            '!' => {
                self.start_word();
                self.tag()?;
            }
            // Within brackets they begin nothing, and the scanner ends there: the last arm has them.
            '|' | '>' if !self.in_brackets() => {
                self.forget_key();
                self.key_allowed = true;
                self.block_text()?;
            }
            '\'' | '"' => {
                self.start_word();
                self.quoted(first)?;
            }
            _ if self.begins_plain(first) => {
                self.start_word();
                self.plain()?;
            }
            _ => return None,
        }
        Some(())
    }

    fn skip_to_token(&mut self) {
        // It takes no column, or the first line would be indented by one.
        if self.at == 0 && self.peek(0) == Some('\u{feff}') {
            self.at += 1;
        }
        loop {
            // A later mark may stand at the beginning of any line, and takes a column there.
            if self.column == 0 && self.peek(0) == Some('\u{feff}') {
                self.skip();
            }
            // A tab where a key may begin would be indentation, which YAML allows spaces only for.
            while self.peek(0) == Some(' ') || (self.peek(0) == Some('\t') && (self.in_brackets() || !self.key_allowed))
            {
                self.skip();
            }
            if self.peek(0) == Some('#') {
                self.skip_line();
            }
            if !self.is_break() {
                return;
            }
            self.skip_break();
            // A new line of a block is where a key may begin; within brackets lines mean nothing.
            if !self.in_brackets() {
                self.key_allowed = true;
            }
        }
    }

    fn save_key(&mut self) {
        if self.key_allowed {
            let key = Key { at: self.at, line: self.line, column: self.column() };
            if let Some(last) = self.keys.last_mut() {
                // The last candidate counts: what was saved before it in the same brackets is no key any more.
                *last = Some(key);
            }
        }
    }

    fn start_word(&mut self) {
        self.save_key();
        self.key_allowed = false;
    }

    fn forget_key(&mut self) {
        if let Some(last) = self.keys.last_mut() {
            *last = None;
        }
    }

    /// A block's mark in column `column`; `None` where none may be.
    fn block(&mut self, column: i64) -> Option<()> {
        // Indentation means nothing within brackets. A `-` there is an error, but of libyaml's parser: its scanner goes
        // on.
        if self.in_brackets() {
            return Some(());
        }
        self.key_allowed.then(|| self.roll(column))
    }

    fn roll(&mut self, column: i64) {
        if !self.in_brackets() && self.indent < column {
            self.indents.push(self.indent);
            self.indent = column;
        }
    }

    fn unroll(&mut self, column: i64) {
        // What stands on an earlier line, or too far back, is a key no more.
        // libyaml looks at the candidates of all brackets here, for each token, which is what makes it slow. The outer
        // ones are not asked for before they are the last again, so looking at the last alone gives the same.
        let (line, at) = (self.line, self.at);
        if let Some(last) = self.keys.last_mut() {
            *last = last.filter(|key| key.line == line && at <= key.at + LONGEST_KEY);
        }
        if self.in_brackets() {
            return;
        }
        while self.indent > column {
            self.indent = self.indents.pop().unwrap_or(-1);
        }
    }

    fn tag(&mut self) -> Option<()> {
        let verbatim = self.peek(1) == Some('<');
        loop {
            match self.peek(0) {
                Some('>') if verbatim => {
                    self.skip();
                    return Some(());
                }
                _ if self.ends(0) => return (!verbatim).then_some(()),
                Some(',') if !verbatim && self.in_brackets() => return Some(()),
                // Brackets and commas are part of a tag between < and > only; braces never are.
                Some('[' | ']' | '{' | '}') if !verbatim => return None,
                Some('{' | '}') => return None,
                _ => self.skip(),
            }
        }
    }

    fn quoted(&mut self, quote: char) -> Option<()> {
        self.skip();
        loop {
            // At the beginning of a line it ends the document even within quotes.
            if self.is_document_mark() {
                return None;
            }
            match self.peek(0)? {
                '\'' if quote == '\'' && self.peek(1) == Some('\'') => {
                    self.skip();
                    self.skip();
                }
                it if it == quote => {
                    self.skip();
                    return Some(());
                }
                '\\' if quote == '"' => {
                    self.skip();
                    // Escapes of several characters, as \x5b, need no more: their digits are no quotes.
                    if self.is_break() { self.skip_break() } else { self.skip() }
                }
                it if is_break(it) => self.skip_break(),
                _ => self.skip(),
            }
        }
    }

    fn begins_plain(&self, first: char) -> bool {
        let indicator = "-?:,[]{}#&*!|>'\"%@`".contains(first) || self.ends(0);
        !indicator
            // libyaml's own exceptions: a `-` before a letter begins a text, and outside brackets `?` and `:` do.
            || (first == '-' && !matches!(self.peek(1), Some(' ' | '\t')))
            || (!self.in_brackets() && matches!(first, '?' | ':') && !self.ends(1))
    }

    /// A text without quotes, over several lines if they are indented far enough.
    fn plain(&mut self) -> Option<()> {
        // A line of a text in a block must be deeper than the block.
        let indent = self.indent + 1;
        let mut lines = false;
        loop {
            if self.is_document_mark() || self.peek(0) == Some('#') {
                break;
            }
            while !self.ends(0) {
                let (here, next) = (self.peek(0), self.peek(1));
                let in_brackets = self.in_brackets();
                // "found unexpected ':'" (libyaml 0.2.5): `[a:]` ends the scan, `[a: ]` does not.
                if in_brackets && here == Some(':') && matches!(next, Some(',' | '?' | '[' | ']' | '{' | '}')) {
                    return None;
                }
                if (here == Some(':') && self.ends(1))
                    || (in_brackets && matches!(here, Some(',' | '[' | ']' | '{' | '}')))
                {
                    break;
                }
                // Only a break right before the end counts: then what follows begins a line, where a key may stand.
                lines = false;
                self.skip();
            }
            if !self.is_blank() && !self.is_break() {
                break;
            }
            while self.is_blank() || self.is_break() {
                if self.is_break() {
                    self.skip_break();
                    lines = true;
                } else if lines && self.column() < indent && self.peek(0) == Some('\t') {
                    return None;
                } else {
                    self.skip();
                }
            }
            // Within brackets a text goes on however little it is indented.
            if !self.in_brackets() && self.column() < indent {
                break;
            }
        }
        if lines {
            self.key_allowed = true;
        }
        Some(())
    }

    /// The lines below `|` or `>`.
    fn block_text(&mut self) -> Option<()> {
        self.skip();
        // Two turns: how breaks are kept and how far the text is indented may come in either order.
        let mut increment = 0;
        for _ in 0..2 {
            match self.peek(0) {
                Some('+' | '-') => self.skip(),
                Some(digit @ '1'..='9') if increment == 0 => {
                    increment = i64::from(digit.to_digit(10).unwrap_or(0));
                    self.skip();
                }
                _ => {}
            }
        }
        while self.is_blank() {
            self.skip();
        }
        if self.peek(0) == Some('#') {
            self.skip_line();
        }
        // Nothing but a comment may follow on the line.
        if self.peek(0).is_some() && !self.is_break() {
            return None;
        }
        if self.is_break() {
            self.skip_break();
        }
        // 0: the first line of the text that is not empty says it.
        let mut indent = if increment > 0 { self.indent.max(0) + increment } else { 0 };
        self.block_text_breaks(&mut indent)?;
        // Brackets, quotes and # are text here, whatever they look like, until a line is not indented as far.
        while self.column() == indent && self.peek(0).is_some() {
            self.skip_line();
            if self.is_break() {
                self.skip_break();
            }
            self.block_text_breaks(&mut indent)?;
        }
        Some(())
    }

    /// Indentation and empty lines; finds out how far the text is indented unless that is known.
    fn block_text_breaks(&mut self, indent: &mut i64) -> Option<()> {
        let mut widest = 0;
        loop {
            while (*indent == 0 || self.column() < *indent) && self.peek(0) == Some(' ') {
                self.skip();
            }
            widest = widest.max(self.column());
            if (*indent == 0 || self.column() < *indent) && self.peek(0) == Some('\t') {
                return None;
            }
            if !self.is_break() {
                break;
            }
            self.skip_break();
        }
        if *indent == 0 {
            // Deeper than the block around it, and by one at the top, so that the text ends where the block goes on.
            *indent = widest.max(self.indent + 1).max(1);
        }
        Some(())
    }
}

fn is_break(character: char) -> bool {
    // libyaml breaks lines at NEL, LS and PS too (YAML 1.1): a comment may end where an editor shows no new line.
    matches!(character, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn too_deep(text: &str) -> bool {
        matches!(excess(text), Some(Excess::Brackets(..)))
    }

    #[test]
    fn brackets_that_nobody_closes_are_found_where_they_are_too_many() {
        for piece in ["{a: ", "[", "{\"}\": ", "{'}}': ", "[ # ]\n", "{? ", "{&a b: ", "[!<]]> {x: ", "{\"\\\"}\": "] {
            assert!(too_deep(&piece.repeat(50_000)), "{piece}");
            let few = piece.repeat(30);
            assert_eq!(excess(&few), None, "{piece}");
        }
        assert_eq!(excess(&format!("a: b\nc: {}", "[".repeat(65))), Some(Excess::Brackets(2, 68)));
    }

    #[test]
    fn what_stands_before_cannot_hide_them() {
        let deep = "{\"}\": ".repeat(100);
        for before in [
            "a: |\n  \"\nb: ",
            "a: >-\n  '\n\n  \"\nb: ",
            "a: it's\nb: ",
            "a: x\n  \"y\nb: ",
            "# it's \"\nb: ",
            "a: 'it''s'\nb: ",
            "a: \"x\\\"\"\nb: ",
            "- - a: x\n      \"y\n    b: ",
            "a: !t 'x'\nb: ",
            "\"a\": b\n\"c\": ",
            "? |\n \"\n: ",
            "a: |2\n   \"\n  \"\nb: ",
            "a: b\u{2028}c: ",
            "\n\u{feff}",
            "\u{feff}\u{feff}",
            "a: b\n\u{feff}c: ",
            "# x\n\u{feff}",
        ] {
            assert!(too_deep(&format!("{before}{deep}")), "{before:?}");
        }
    }

    #[test]
    fn brackets_in_quotes_comments_and_texts_are_none() {
        let many = "[{".repeat(100);
        for text in [
            format!("a: \"{many}\"\n"),
            format!("a: '{many}'\n"),
            format!("# {many}\na: b\n"),
            format!("a: b{many}\n"),
            format!("a: |\n  {many}\nb: c\n"),
            format!("a: b\n  {many}\nc: d\n"),
            "a: [b, {c: d}]\n".repeat(1_000),
            "- {a: [1, 2], b: \"]\"}\n".repeat(1_000),
        ] {
            assert_eq!(excess(&text), None, "{}", &text[..20]);
        }
    }

    #[test]
    fn a_flood_of_directives_is_found() {
        let flood = (0..100).map(|number| format!("%TAG !a{number}! tag:x\n")).collect::<Vec<_>>().concat();
        assert_eq!(excess(&flood), Some(Excess::Directives(9)));
        assert_eq!(excess("%YAML 1.1\n---\na: b\n"), None);
    }
}
