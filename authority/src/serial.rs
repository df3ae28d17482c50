//! Rules and authorities for serde: as text, and as a structure of named fields.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::authority::Authority;
use crate::policy::Policy;
use crate::rules::{End, Exception, Host, Rule, Rules};
use crate::sets::PortSet;
use crate::terms::Terms;
use crate::tuple::{Operation, Protocol};

macro_rules! as_text {
    ($($name:ident)+) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(D::Error::custom)
            }
        }
    )+};
}

as_text!(Authority Policy Rules Terms);

/// Rules as a structure, for formats in which a text inside of text would be awkward.
///
/// A field that nobody knows is an error. `ports` may be left out nowhere but in `from` and in the end of
/// an exception, where that stands for every port, as in the text form.
///
/// ```
/// use refcap_authority::{Rules, Structured};
/// let text = r#"{
///     "rules": [{ "operations": ["connect"], "protocols": ["tcp"], "host": "10.0.0.0/8", "ports": "443" }],
///     "exceptions": [{ "host": "metadata" }]
/// }"#;
/// let Structured(rules) = serde_json::from_str(text)?;
/// assert_eq!(rules, Rules::parse("connect tcp 10.0.0.0/8:443; except metadata").unwrap());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Structured(pub Rules);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RulesForm {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rules: Vec<RuleForm>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    exceptions: Vec<ExceptionForm>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    names_to: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleForm {
    operations: Vec<String>,
    protocols: Vec<String>,
    host: String,
    ports: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<EndForm>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    without: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EndForm {
    host: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ports: Option<String>,
}

// Which of the two an exception is can be told by its fields; all of them are here, so that an unknown
// one is still an error, which untagged enums do not promise.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExceptionForm {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ports: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rule: Option<RuleForm>,
}

impl Serialize for Structured {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let form = RulesForm {
            rules: self.0.rules.iter().map(RuleForm::of).collect(),
            exceptions: self.0.exceptions.iter().map(ExceptionForm::of).collect(),
            names_to: self.0.names_to.iter().map(Host::to_string).collect(),
        };
        form.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Structured {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = RulesForm::deserialize(deserializer)?;
        let read = || -> Result<Rules, String> {
            let rules = Rules {
                rules: form.rules.iter().map(RuleForm::read).collect::<Result<_, _>>()?,
                exceptions: form
                    .exceptions
                    .iter()
                    .map(ExceptionForm::read)
                    .collect::<Result<_, _>>()?,
                names_to: Vec::new(),
            };
            let names_to = form.names_to.iter().map(|host| read_host(host));
            rules
                .names_to(names_to.collect::<Result<Vec<_>, _>>()?)
                .map_err(|error| error.to_string())
        };
        read().map(Structured).map_err(D::Error::custom)
    }
}

impl RuleForm {
    fn of(rule: &Rule) -> RuleForm {
        RuleForm {
            operations: rule
                .operations()
                .iter()
                .map(|operation| operation.to_string())
                .collect(),
            protocols: rule
                .protocols()
                .iter()
                .map(|protocol| protocol.to_string())
                .collect(),
            host: rule.main().host.to_string(),
            ports: rule.main().ports.to_string(),
            from: rule.source().map(EndForm::of),
            without: rule.without().iter().map(Host::to_string).collect(),
        }
    }

    fn read(&self) -> Result<Rule, String> {
        let operation = |word: &String| {
            Operation::from_word(word).ok_or_else(|| format!("unknown operation `{}`", word.escape_debug()))
        };
        let protocol = |word: &String| {
            Protocol::from_word(word).ok_or_else(|| format!("unknown protocol `{}`", word.escape_debug()))
        };
        let operations = self
            .operations
            .iter()
            .map(operation)
            .collect::<Result<Vec<_>, _>>()?;
        let protocols = self
            .protocols
            .iter()
            .map(protocol)
            .collect::<Result<Vec<_>, _>>()?;
        let main = End {
            host: read_host(&self.host)?,
            ports: read_ports(Some(&self.ports))?,
        };
        let operations: crate::OperationSet = operations.into_iter().collect();
        let protocols: crate::ProtocolSet = protocols.into_iter().collect();
        let mut rule = Rule::new(operations, protocols, main).map_err(|error| error.to_string())?;
        if let Some(from) = &self.from {
            rule = rule.with_from(from.read()?).map_err(|error| error.to_string())?;
        }
        let without = self
            .without
            .iter()
            .map(|host| read_host(host))
            .collect::<Result<Vec<_>, _>>()?;
        rule.with_exclusions(without).map_err(|error| error.to_string())
    }
}

impl EndForm {
    fn of(end: &End) -> EndForm {
        EndForm {
            host: end.host.to_string(),
            ports: (!end.ports.is_any()).then(|| end.ports.to_string()),
        }
    }

    fn read(&self) -> Result<End, String> {
        Ok(End {
            host: read_host(&self.host)?,
            ports: read_ports(self.ports.as_deref())?,
        })
    }
}

impl ExceptionForm {
    fn of(exception: &Exception) -> ExceptionForm {
        match exception {
            Exception::End(end) => {
                let EndForm { host, ports } = EndForm::of(end);
                ExceptionForm {
                    host: Some(host),
                    ports,
                    rule: None,
                }
            }
            Exception::Rule(rule) => ExceptionForm {
                host: None,
                ports: None,
                rule: Some(RuleForm::of(rule)),
            },
        }
    }

    fn read(&self) -> Result<Exception, String> {
        match (&self.host, &self.ports, &self.rule) {
            (Some(host), ports, None) => Ok(Exception::End(End {
                host: read_host(host)?,
                ports: read_ports(ports.as_deref())?,
            })),
            (None, None, Some(rule)) => rule.read().map(Exception::Rule),
            _ => Err("an exception has a `host`, perhaps with `ports`, or else a `rule`".to_owned()),
        }
    }
}

fn read_host(text: &str) -> Result<Host, String> {
    text.parse::<Host>()
        .map_err(|error| format!("in `{}`: {error}", text.escape_debug()))
}

fn read_ports(text: Option<&str>) -> Result<PortSet, String> {
    match text {
        Some(text) => text
            .parse::<PortSet>()
            .map_err(|error| format!("in `{}`: {error}", text.escape_debug())),
        None => Ok(PortSet::any()),
    }
}
