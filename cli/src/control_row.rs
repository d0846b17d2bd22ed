//! The control row of a comparison or search, as far as `null` can be one: under the strongest contract that it keeps, or left out.
//!
//! It is the harness's own ceiling and never ranked, so it need not keep what the others promise. Leaves out `null` as a backend that was
//! asked for by name: that one is held to the contract like every other.

use brokerlab_embedded::{BackendUrl, capabilities, honour};
use brokerlab_host::check_bindings;
use brokerlab_model::{Contract, Delivery};

use crate::plan::Row;
use crate::session::Session;

/// The control row's URL.
pub(crate) const CONTROL: &str = "null";

/// The strongest contract that the control row keeps of `asked`; none where it keeps nothing like it.
pub(crate) fn kept(asked: Contract) -> Option<Contract> {
    let control = BackendUrl::parse(CONTROL).ok()?;
    let once = Delivery::AtLeastOnce.min(asked.delivery);
    let weaker = [
        asked,
        Contract { delivery: once, ..asked },
        Contract { copies: 1, ..asked },
        Contract { delivery: once, copies: 1, ..asked },
    ];
    weaker.into_iter().find(|contract| honour(&control, contract).is_ok())
}

impl Session {
    /// The rows without the control row, where it has not what the profile needs; with a note of that, and of a contract that is weaker.
    pub(crate) fn with_fitting_control(&mut self, mut rows: Vec<Row>, asked: &[String]) -> Vec<Row> {
        if asked.iter().any(|url| url == CONTROL) {
            return rows;
        }
        let Some(contract) = kept(self.profile.contract) else {
            self.note(format!("no control row: {CONTROL} keeps nothing like the contract {}", self.profile.contract));
            rows.retain(|row| row.url != CONTROL);
            return rows;
        };
        let features = BackendUrl::parse(CONTROL).ok().and_then(|control| capabilities(&control, &contract).ok());
        if features.is_some_and(|features| check_bindings(&features, &self.profile).is_err()) {
            self.note(format!(
                "no control row, so nothing says how much the harness itself carries: {CONTROL} has no routing, and groups have bindings"
            ));
            rows.retain(|row| row.url != CONTROL);
        } else if contract != self.profile.contract {
            self.note(format!(
                "the control row {CONTROL} runs under {contract}, the strongest of the kind that it keeps"
            ));
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use brokerlab_model::{Order, Storage};

    use super::*;

    #[test]
    fn the_control_row_keeps_as_much_of_a_contract_as_it_can() {
        let plain = Contract { order: Order::PerKey, storage: Storage::Fsync, ..Contract::default() };
        assert_eq!(kept(plain), Some(plain));
        let exactly = Contract { delivery: Delivery::ExactlyOnce, ..plain };
        assert_eq!(kept(exactly), Some(plain));
        assert_eq!(kept(Contract { copies: 3, ..exactly }), Some(plain));
        let once = Contract { delivery: Delivery::AtMostOnce, ..plain };
        assert_eq!(kept(Contract { copies: 2, ..once }), Some(once));
    }
}
