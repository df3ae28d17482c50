//! Rules, exceptions and queries out of tokens.

use std::net::SocketAddr;

use super::host::{self, Piece, split_end};
use super::lexer::{Kind, Lexer, Token};
use super::{MAX_RULES, MAX_TEXT, ParseError, of_rule};
use crate::policy::Policy;
use crate::query::Query;
use crate::rules::{End, Exception, Host, Rule, RuleError};
use crate::sets::{OperationSet, PortSet, ProtocolSet};
use crate::tuple::{Direction, Operation, Protocol, Remote};

/// What a text may have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Rules,
    Terms,
    Both,
}

/// The kinds of clauses. Each begins with words that no other begins with.
enum Clause {
    Rule,
    Exceptions,
    NamesTo,
    Terms,
}

const OPERATIONS: &str = "one of connect, send (outbound), bind, listen, accept, receive (inbound)";

/// Everything that a text says.
pub(super) fn policy(text: &str, content: Content) -> Result<Policy, ParseError> {
    let mut parser = Parser::new(text)?;
    let mut policy = Policy::default();
    loop {
        while parser.is_next(Kind::Stop) {
            parser.bump();
        }
        if parser.is_next(Kind::Eof) {
            return Ok(policy);
        }
        let rules = &mut policy.rules;
        match (parser.next_clause(), content) {
            (Some(Clause::Terms), Content::Rules) => {
                let expected = "a rule: limits, flags and labels are terms, which do not belong among rules";
                return Err(parser.expected(expected));
            }
            (Some(Clause::Terms), _) => parser.terms(&mut policy.terms)?,
            (Some(_), Content::Terms) => {
                let expected = "limit, no or label: rules do not belong among terms";
                return Err(parser.expected(expected));
            }
            (Some(Clause::Rule), _) => rules.rules.push(parser.rule(Where::Rule)?),
            (Some(Clause::Exceptions), _) => parser.exceptions(&mut rules.exceptions)?,
            (Some(Clause::NamesTo), _) => parser.names_to(&mut rules.names_to)?,
            (None, content) => {
                let expected = match content {
                    Content::Rules => format!("{OPERATIONS}, except or names to"),
                    Content::Terms => "limit, no or label".to_owned(),
                    Content::Both => format!("{OPERATIONS}, except, names to, limit, no or label"),
                };
                return Err(parser.expected(expected));
            }
        }
        if rules.rules.len() + rules.exceptions.len() + rules.names_to.len() > MAX_RULES {
            return Err(parser.expected(format!("at most {MAX_RULES} rules and exceptions")));
        }
        if !parser.is_next(Kind::Stop) && !parser.is_next(Kind::Eof) {
            return Err(parser.expected("`;` or the end of the line"));
        }
    }
}

/// One rule and nothing else.
pub(super) fn rule(text: &str) -> Result<Rule, ParseError> {
    let mut parser = Parser::new(text)?;
    let rule = parser.rule(Where::Rule)?;
    parser.end_of_text()?;
    Ok(rule)
}

/// One host and nothing else.
pub(super) fn host(text: &str) -> Result<Host, ParseError> {
    let mut parser = Parser::new(text)?;
    let host = parser.host()?;
    parser.end_of_text()?;
    Ok(host)
}

/// One end, whose ports may be missing, and nothing else.
pub(super) fn end(text: &str) -> Result<End, ParseError> {
    let mut parser = Parser::new(text)?;
    let end = parser.end(Where::Rule, Ports::Optional)?;
    parser.end_of_text()?;
    Ok(end)
}

/// One end with its ports, and nothing else.
pub(super) fn destination(text: &str) -> Result<End, ParseError> {
    let mut parser = Parser::new(text)?;
    let end = parser.end(Where::Rule, Ports::Required)?;
    parser.end_of_text()?;
    Ok(end)
}

/// A list of ports and nothing else.
pub(super) fn ports(text: &str) -> Result<PortSet, ParseError> {
    let mut parser = Parser::new(text)?;
    let word = parser.word("ports")?;
    let ports = parser.ports(word, Where::Rule)?;
    parser.end_of_text()?;
    Ok(ports)
}

/// A query.
pub(super) fn query(text: &str) -> Result<Query, ParseError> {
    let mut parser = Parser::new(text)?;
    let operation = parser.operation()?;
    let protocol = parser.protocol()?;
    let destination = parser.query_end()?;
    let source = match parser.takes_word("from") {
        true => parser.query_end()?,
        false => None,
    };
    parser.end_of_text()?;
    let mut query = Query::new(operation, protocol);
    let (local, remote) = match operation.direction() {
        Direction::Outbound => (source, destination),
        Direction::Inbound => (destination, source),
    };
    if let Some((remote, piece)) = remote {
        if operation == Operation::Bind {
            return Err(piece.error("no remote end with bind, which has none"));
        }
        if operation.direction() == Direction::Inbound && matches!(remote, Remote::Name(..)) {
            return Err(piece.error("an address as the source, not a name: packets come from addresses"));
        }
        query = query.remote(remote);
    }
    if let Some((local, piece)) = local {
        let Remote::Address(local) = local else {
            return Err(piece.error("an address as the local end, not a name"));
        };
        query = query.local(local);
    }
    Ok(query)
}

/// Whether a comma behind ports may begin something else than a port.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    Rule,
    Exception,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ports {
    Required,
    Optional,
}

pub(super) struct Parser<'a> {
    text: &'a str,
    lexer: Lexer<'a>,
    next: Token,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Result<Self, ParseError> {
        if text.len() > MAX_TEXT {
            return Err(ParseError {
                span: 0..0,
                line: 1,
                column: 1,
                expected: format!("a text of at most {MAX_TEXT} bytes"),
                found: format!("{} bytes", text.len()),
            });
        }
        let mut lexer = Lexer::new(text);
        let next = lexer.next();
        Ok(Parser { text, lexer, next })
    }

    pub(super) fn bump(&mut self) {
        self.next = self.lexer.next();
    }

    pub(super) fn is_next(&self, kind: Kind) -> bool {
        self.next.kind == kind
    }

    pub(super) fn next_text(&self) -> &'a str {
        &self.text[self.next.span.clone()]
    }

    fn next_piece(&self) -> Piece<'a> {
        Piece {
            whole: self.text,
            text: self.next_text(),
            at: self.next.span.start,
        }
    }

    fn expected(&self, expected: impl Into<String>) -> ParseError {
        ParseError::at(self.text, self.next.span.clone(), expected)
    }

    fn end_of_text(&self) -> Result<(), ParseError> {
        if self.is_next(Kind::Eof) {
            Ok(())
        } else {
            Err(self.expected("the end of the text"))
        }
    }

    /// The next word.
    pub(super) fn word(&mut self, expected: &str) -> Result<Piece<'a>, ParseError> {
        if !self.is_next(Kind::Word) {
            return Err(self.expected(expected));
        }
        let piece = self.next_piece();
        self.bump();
        Ok(piece)
    }

    /// Takes the next word if it is that one.
    pub(super) fn takes_word(&mut self, word: &str) -> bool {
        let is_it = self.is_next(Kind::Word) && self.next_text() == word;
        if is_it {
            self.bump();
        }
        is_it
    }

    pub(super) fn takes_comma(&mut self) -> bool {
        let is_it = self.is_next(Kind::Comma);
        if is_it {
            self.bump();
        }
        is_it
    }

    /// The clause that begins with the next word; `None` if none does.
    fn next_clause(&self) -> Option<Clause> {
        match self.next_text() {
            _ if !self.is_next(Kind::Word) => None,
            "except" => Some(Clause::Exceptions),
            "names" => Some(Clause::NamesTo),
            "limit" | "no" | "label" => Some(Clause::Terms),
            word => Operation::from_word(word).map(|_| Clause::Rule),
        }
    }

    fn exceptions(&mut self, exceptions: &mut Vec<Exception>) -> Result<(), ParseError> {
        self.bump();
        loop {
            let is_rule = self.is_next(Kind::Word) && Operation::from_word(self.next_text()).is_some();
            exceptions.push(if is_rule {
                Exception::Rule(self.rule(Where::Exception)?)
            } else {
                Exception::End(self.end(Where::Exception, Ports::Optional)?)
            });
            if exceptions.len() > MAX_RULES {
                return Err(self.expected(format!("at most {MAX_RULES} rules and exceptions")));
            }
            if !self.takes_comma() {
                return Ok(());
            }
        }
    }

    fn names_to(&mut self, hosts: &mut Vec<Host>) -> Result<(), ParseError> {
        self.bump();
        if !self.takes_word("to") {
            return Err(self.expected("`to` and the addresses that names may stand for"));
        }
        loop {
            let piece = self.next_piece();
            let host = self.host()?;
            if host.is_name() {
                return Err(piece.error(RuleError::NameAsAnswer.to_string()));
            }
            hosts.push(host);
            if hosts.len() > MAX_RULES {
                return Err(self.expected(format!("at most {MAX_RULES} rules and exceptions")));
            }
            if !self.takes_comma() {
                return Ok(());
            }
        }
    }

    fn rule(&mut self, place: Where) -> Result<Rule, ParseError> {
        let start = self.next.span.start;
        let operations = self.operations()?;
        let operations_end = self.next.span.start;
        let protocols = self.protocols()?;
        let operations_span = start..start + self.text[start..operations_end].trim_end().len();
        if operations.direction().is_none() {
            return Err(of_rule(self.text, operations_span, RuleError::MixedDirections));
        }
        let word = self.next.span.clone();
        let main = self.end(place, Ports::Required)?;
        let mut rule =
            Rule::new(operations, protocols, main).map_err(|error| of_rule(self.text, word, error))?;
        let word = self.next.span.clone();
        if self.takes_word("from") {
            let from_word = self.next.span.clone();
            let from = self.end(place, Ports::Optional)?;
            let span = if operations.contains(Operation::Bind) {
                word
            } else {
                from_word
            };
            rule = rule
                .with_from(from)
                .map_err(|error| of_rule(self.text, span, error))?;
        }
        let word = self.next.span.clone();
        if self.takes_word("without") {
            let mut hosts = vec![self.host()?];
            while self.takes_comma() {
                hosts.push(self.host()?);
            }
            rule = rule
                .with_exclusions(hosts)
                .map_err(|error| of_rule(self.text, word, error))?;
        }
        Ok(rule)
    }

    fn operations(&mut self) -> Result<OperationSet, ParseError> {
        let mut operations = vec![self.operation()?];
        while self.takes_comma() {
            operations.push(self.operation()?);
        }
        Ok(operations.into_iter().collect())
    }

    fn operation(&mut self) -> Result<Operation, ParseError> {
        let operation = match self.is_next(Kind::Word) {
            true => Operation::from_word(self.next_text()),
            false => None,
        };
        match operation {
            Some(operation) => {
                self.bump();
                Ok(operation)
            }
            None => Err(self.expected(OPERATIONS)),
        }
    }

    fn protocols(&mut self) -> Result<ProtocolSet, ParseError> {
        let mut protocols = vec![self.protocol()?];
        while self.takes_comma() {
            protocols.push(self.protocol()?);
        }
        Ok(protocols.into_iter().collect())
    }

    fn protocol(&mut self) -> Result<Protocol, ParseError> {
        let protocol = match self.is_next(Kind::Word) {
            true => Protocol::from_word(self.next_text()),
            false => None,
        };
        match protocol {
            Some(protocol) => {
                self.bump();
                Ok(protocol)
            }
            None => Err(self.expected("tcp, udp or tcp,udp")),
        }
    }

    fn host(&mut self) -> Result<Host, ParseError> {
        let word = self.word("a host")?;
        match split_end(word)? {
            (host, None) => host::host(host),
            (_, Some(ports)) => Err(ports.error("a host without ports")),
        }
    }

    fn end(&mut self, place: Where, need: Ports) -> Result<End, ParseError> {
        let word = self.word(match need {
            Ports::Required => "HOST:PORTS",
            Ports::Optional => "HOST or HOST:PORTS",
        })?;
        let (host, ports) = split_end(word)?;
        let host_text = host.text;
        let host = host::host(host)?;
        let ports = match ports {
            Some(ports) => self.ports(ports, place)?,
            None if need == Ports::Optional => PortSet::any(),
            None => {
                let span = word.at..word.at + word.text.len();
                let expected =
                    format!("`:` and ports behind the host: `{host_text}:443`, or `{host_text}:*` for all");
                return Err(ParseError::at(self.text, span, expected));
            }
        };
        Ok(End { host, ports })
    }

    /// The list of ports that begins with that piece and goes on behind commas.
    fn ports(&mut self, first: Piece<'a>, place: Where) -> Result<PortSet, ParseError> {
        if first.text.is_empty() {
            return Err(first.error("ports behind `:`, such as `443`, `8000-8999` or `*`"));
        }
        let any = first.text == "*";
        let mut ranges = Vec::new();
        if !any {
            ranges.push(host::port_range(first)?);
        }
        while self.is_next(Kind::Comma) {
            let mut ahead = self.lexer.clone();
            let item = ahead.next();
            let text = &self.text[item.span.clone()];
            let is_port = item.kind == Kind::Word && (text == "*" || is_port_like(text));
            if place == Where::Exception && item.kind == Kind::Word && !is_port {
                break;
            }
            self.bump();
            let piece = self.next_piece();
            if any || text == "*" {
                return Err(piece.error("no other ports beside `*`"));
            }
            let piece = match self.is_next(Kind::Word) {
                true => self.word("a port")?,
                false => return Err(self.expected("a port from 0 to 65535 behind `,`")),
            };
            ranges.push(host::port_range(piece)?);
        }
        if any {
            return Ok(PortSet::any());
        }
        // Each range was checked above, and there is the first one at least.
        Ok(PortSet::from_ranges(ranges).unwrap_or_else(PortSet::any))
    }

    /// An end of a query; `None` for `*`.
    fn query_end(&mut self) -> Result<Option<(Remote, Piece<'a>)>, ParseError> {
        let word = self.word("ADDRESS:PORT, NAME:PORT or `*`")?;
        if word.text == "*" {
            return Ok(None);
        }
        let (host, port) = split_end(word)?;
        let Some(port) = port else {
            return Err(word.error("`:` and a port behind the address or name"));
        };
        let port = host::port(port)?;
        let text = host.text;
        let address = if text.starts_with('[') {
            host::v6_address(host.part(1..text.len() - 1))?
        } else if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            host::v4_address(host)?
        } else {
            let name = host::plain_name(host)?;
            return Ok(Some((Remote::Name(name, port), host)));
        };
        Ok(Some((Remote::from(SocketAddr::new(address, port)), host)))
    }
}

/// Whether a word can only be meant as ports.
fn is_port_like(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit())
        && word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}
