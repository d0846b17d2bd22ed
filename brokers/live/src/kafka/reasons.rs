//! What refusals, failures and lost lanes were about, in words: each once, and not without end. Leaves out counting them.

/// So many are kept.
const MOST: usize = 8;

/// Reasons of one client, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Reasons {
    texts: Vec<String>,
}

impl Reasons {
    /// Keeps what was not said before.
    pub(super) fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        if self.texts.len() < MOST && !self.texts.contains(&text) {
            self.texts.push(text);
        }
    }

    pub(super) fn texts(&self) -> Vec<String> {
        self.texts.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_kept_once_and_not_without_end() {
        let mut reasons = Reasons::default();
        for n in 0..20 {
            reasons.note(format!("{}", n / 2));
        }
        assert_eq!(reasons.texts(), ["0", "1", "2", "3", "4", "5", "6", "7"]);
    }
}
