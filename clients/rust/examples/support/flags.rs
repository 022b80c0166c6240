//! Parses the programs' command lines: `--name value`, in any order.

use std::collections::HashMap;

/// The flags that a program was started with.
pub struct Flags(HashMap<String, String>);

#[allow(dead_code, reason = "every program uses some of it")]
impl Flags {
    /// Parses the flags of this process.
    pub fn from_arguments() -> Result<Self, String> {
        let mut words = std::env::args().skip(1);
        let mut flags = HashMap::new();
        while let Some(word) = words.next() {
            let name = word.strip_prefix("--").ok_or_else(|| format!("{word}: expected --NAME VALUE"))?;
            flags.insert(name.to_owned(), words.next().ok_or_else(|| format!("{word}: expected a value"))?);
        }
        Ok(Flags(flags))
    }

    /// Returns the value of an optional flag.
    pub fn find(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Returns the value of a required flag.
    pub fn required(&self, name: &str) -> Result<&str, String> {
        self.find(name).ok_or_else(|| format!("--{name} is missing"))
    }

    /// Returns the value of an optional numeric flag.
    pub fn number(&self, name: &str) -> Result<Option<usize>, String> {
        let parse = |value: &str| value.parse().map_err(|_| format!("--{name}: expected a number, got {value}"));
        self.find(name).map(parse).transpose()
    }
}
