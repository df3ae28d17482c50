//! Starts programs that hold nothing of the network, and gives them what they ask for if the user's rules say so.
//!
//! See the README beside this folder for how to run it, and for the picture of who got what from whom.
//!
//! The powerbox holds a wide network. A program that it starts gets one thing, an object to ask; each has its own, so the
//! powerbox knows who asks. What it gives is a network with the one address that was asked for, and it keeps the revoker
//! of each.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, ensure};
use powerbox_api::rules::Policy;
use powerbox_api::{Answer, Powerbox, PowerboxRef, Refused};
use refcap_guest::{ErrorCode, Net, Result, Revoker, Spawner};

refcap_guest::answers_calls!();

const USAGE: &str = "usage: powerbox RULES PROGRAM=ADDRESS:PORT[,ADDRESS:PORT...]...";
/// How long it waits for a question before it looks whether the program has ended.
const A_WHILE: Duration = Duration::from_millis(20);

#[refcap_guest::main]
fn main(net: Net, spawner: Spawner) -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (text, programs) = arguments.split_first().context(USAGE)?;
    let programs: Option<Vec<_>> = programs.iter().map(|program| program.split_once('=')).collect();
    let programs = programs.filter(|programs| !programs.is_empty()).context(USAGE)?;
    let names: Vec<_> = programs.iter().map(|(name, _)| *name).collect();
    let policy = Policy::parse(text, &names).context("the rules")?;
    let (net, policy) = (Rc::new(net), Rc::new(policy));
    // One after the other, so that the user can follow.
    for (name, wishes) in programs {
        let desk = PowerboxRef::new(Desk {
            name: name.to_owned(),
            net: net.clone(),
            policy: policy.clone(),
            given: RefCell::default(),
        })?;
        let mut launch = spawner.program(name)?.grant("powerbox", &desk)?.argument(name)?;
        for wish in wishes.split(',') {
            launch = launch.argument(wish)?;
        }
        let child = launch.start().with_context(|| format!("starting {name}"))?;
        let ending = loop {
            if let Some(ending) = child.try_wait()? {
                break ending;
            }
            match refcap_guest::object::serve(Some(A_WHILE)) {
                Err(error) if error.code() == ErrorCode::TimedOut => {}
                served => served?,
            }
        };
        println!("powerbox: {name} has ended: {ending}");
        ensure!(ending.is_success(), "{name} has failed");
    }
    Ok(())
}

/// Where one program asks.
struct Desk {
    name: String,
    net: Rc<Net>,
    policy: Rc<Policy>,
    /// By the place of the rule, what takes back each that was given.
    given: RefCell<BTreeMap<usize, Vec<Revoker>>>,
}

impl Powerbox for Desk {
    fn ask(&self, purpose: String, address: SocketAddr) -> Result<Answer> {
        let answer = self.decide(address)?;
        let said = match &answer {
            Answer::Given(net) => format!("yes, `{}`", net.describe()?),
            Answer::Refused(why) => why.to_string(),
        };
        // What a program says is quoted, for it could move the cursor.
        println!("powerbox: {} asks for {address}, {purpose:?}: {said}", self.name);
        Ok(answer)
    }
}

impl Desk {
    fn decide(&self, address: SocketAddr) -> Result<Answer> {
        let Some(place) = self.policy.decide(&self.name, address) else {
            return Ok(Answer::Refused(Refused::ByDefault));
        };
        let rule = self.policy.rule(place);
        if !rule.allows {
            return Ok(Answer::Refused(Refused::ByRule(rule.text.clone())));
        }
        let mut given = self.given.borrow_mut();
        let given = given.entry(place).or_default();
        if rule.times.is_some_and(|times| given.len() >= times as usize) {
            let ended = given.iter().map(Revoker::revoke).sum::<Result<usize>>()?;
            return Ok(Answer::Refused(Refused::TooOften(rule.text.clone(), ended)));
        }
        let part = rule.part(address).map_err(|error| {
            refcap_guest::Error::new(ErrorCode::TooComplex, "read a rule", error.to_string())
        })?;
        let only = match self.net.exactly(part) {
            Err(error) if error.is_denied() => {
                return Ok(Answer::Refused(Refused::NotHeld(rule.text.clone())));
            }
            only => only?.limit(format!("label {}", self.name))?,
        };
        let (lent, revoker) = only.revocable()?;
        given.push(revoker);
        // The powerbox closes its own reference; what the program has of it ends with the revoker.
        Ok(Answer::Given(lent))
    }
}
