//! The query string's grammar: `a=b,c!=d,e in (x,y),!f,g>1`.

use super::{Operator, Requirement, Selector, SelectorError};

/// The longest selector read; a URL that carries one is no longer than this anyway.
const SELECTOR_BYTES_MAX: usize = 64 << 10;

/// Reads a selector from the query string's form. An empty text selects everything.
pub fn parse(text: &str) -> Result<Selector, SelectorError> {
    if text.len() > SELECTOR_BYTES_MAX {
        return Err(SelectorError(format!(
            "label selector is longer than {SELECTOR_BYTES_MAX} bytes"
        )));
    }
    let mut parser = Parser { tokens: tokens(text), next: 0 };
    let mut requirements = parser.requirements()?;
    requirements.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(Selector { requirements: Some(requirements) })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    /// A key, a value, or one of the words `in` and `notin`.
    Word(&'a str),
    /// `=`, `==`, `!=`, `<`, `>`, `!`, `(`, `)`, `,`.
    Symbol(&'a str),
    End,
}

impl<'a> Token<'a> {
    fn text(self) -> &'a str {
        match self {
            Token::Word(text) | Token::Symbol(text) => text,
            Token::End => "",
        }
    }
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let is_symbol = |c: char| "=!(),<>".contains(c);
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let symbol = ["==", "!=", "=", "!", "(", ")", ",", "<", ">"]
            .into_iter()
            .find(|symbol| rest.starts_with(symbol));
        let length = symbol.map_or_else(
            || rest.find(|c| is_symbol(c) || is_space(c)).unwrap_or(rest.len()),
            str::len,
        );
        let (token, tail) = rest.split_at(length);
        tokens.push(if symbol.is_some() { Token::Symbol(token) } else { Token::Word(token) });
        rest = tail.trim_start_matches(is_space);
    }
    tokens
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    next: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Token<'a> {
        self.tokens.get(self.next).copied().unwrap_or(Token::End)
    }

    fn take(&mut self) -> Token<'a> {
        let token = self.peek();
        self.next += 1;
        token
    }

    fn requirements(&mut self) -> Result<Vec<Requirement>, SelectorError> {
        let mut requirements = Vec::new();
        if self.peek() == Token::End {
            return Ok(requirements);
        }
        loop {
            match self.peek() {
                Token::Word(_) | Token::Symbol("!") => {}
                token => return Err(found(token, "!, identifier, or ','")),
            }
            requirements.push(self.requirement().map_err(|SelectorError(text)| {
                SelectorError(format!("unable to parse requirement: {text}"))
            })?);
            match self.take() {
                Token::End => return Ok(requirements),
                Token::Symbol(",") => {}
                token => return Err(found(token, "',' or 'end of string'")),
            }
            if matches!(self.peek(), Token::End | Token::Symbol(",")) {
                return Err(found(self.peek(), "identifier after ','"));
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        if self.peek() == Token::Symbol("!") {
            self.take();
            return Requirement::new(self.key()?, Operator::DoesNotExist, Vec::new());
        }
        let key = self.key()?;
        let operator = match self.peek() {
            Token::End | Token::Symbol(",") => {
                return Requirement::new(key, Operator::Exists, Vec::new());
            }
            Token::Symbol("=") => Operator::Equals,
            Token::Symbol("==") => Operator::DoubleEquals,
            Token::Symbol("!=") => Operator::NotEquals,
            Token::Symbol(">") => Operator::GreaterThan,
            Token::Symbol("<") => Operator::LessThan,
            Token::Word("in") => Operator::In,
            Token::Word("notin") => Operator::NotIn,
            token => return Err(found(token, "in, notin, =, ==, !=, gt, lt")),
        };
        self.take();
        let values = match operator {
            Operator::In | Operator::NotIn => self.value_set()?,
            _ => vec![self.exact_value()?],
        };
        Requirement::new(key, operator, values)
    }

    fn key(&mut self) -> Result<&'a str, SelectorError> {
        match self.take() {
            Token::Word(word) => Ok(word),
            token => Err(found(token, "identifier")),
        }
    }

    /// One value; nothing before `,` or the end is the empty value.
    fn exact_value(&mut self) -> Result<String, SelectorError> {
        match self.peek() {
            Token::End | Token::Symbol(",") => Ok(String::new()),
            Token::Word(word) => {
                self.take();
                Ok(word.to_owned())
            }
            token => Err(found(token, "identifier")),
        }
    }

    /// `(x, y)`: values are in upstream a set, so they come sorted and once.
    fn value_set(&mut self) -> Result<Vec<String>, SelectorError> {
        match self.take() {
            Token::Symbol("(") => {}
            token => return Err(found(token, "'('")),
        }
        let mut values = Vec::new();
        let mut value = String::new();
        loop {
            match self.take() {
                Token::Word(word) if value.is_empty() => word.clone_into(&mut value),
                Token::Symbol(",") => values.push(std::mem::take(&mut value)),
                Token::Symbol(")") => break,
                token => return Err(found(token, "',', or ')'")),
            }
        }
        values.push(value);
        values.sort_unstable();
        values.dedup();
        Ok(values)
    }
}

fn found(token: Token<'_>, expected: &str) -> SelectorError {
    SelectorError(format!("found '{}', expected: {expected}", token.text()))
}
