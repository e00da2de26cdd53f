//! Texts that no message shows: the values of storage options and of credentials in the environment.

/// Secrets to take out of foreign texts. Servers quote keys and signed strings back in their answers.
#[derive(Clone, Default)]
pub struct Hidden(Vec<String>);

impl Hidden {
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        let mut hidden: Vec<String> = pairs
            .into_iter()
            .filter(|(key, value)| value.len() >= 4 && !harmless(key))
            .map(|(_, value)| value.clone())
            .collect();
        // Longest first: a secret that contains another must not leave its tail behind.
        hidden.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Hidden(hidden)
    }

    pub fn scrub(&self, text: String) -> String {
        self.0
            .iter()
            .fold(text, |text, secret| text.replace(secret.as_str(), "[secret]"))
    }
}

/// Names of options whose values help in a message and are no secret.
fn harmless(key: &str) -> bool {
    const WORDS: [&str; 14] = [
        "region",
        "endpoint",
        "bucket",
        "allow",
        "timeout",
        "retr",
        "conditional",
        "container",
        "account_name",
        "style",
        "proxy_excludes",
        "checksum",
        "limit",
        "interval",
    ];
    let key = key.to_ascii_lowercase();
    WORDS.iter().any(|word| key.contains(word))
}
