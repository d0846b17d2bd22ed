//! The conformance suite: public functions that every backend instantiates by name, so that a glance shows what it claims.
//!
//! A case is a function of a [`Rig`], which brings a broker, the time and somebody who waits; the suite itself knows no clock
//! and no thread. The same cases run on a state machine in virtual time, on an engine with real files, and on a client across
//! a socket. What a backend has not is asserted to be refused, in the case that covers what it would be.
//!
//! [`conformance_suite!`](crate::conformance_suite) makes a test of each case, [`conformance_timing_suite!`](crate::conformance_timing_suite)
//! of those that need a clock which only moves when nothing else can: on a machine's own clock a slow machine would fail them.
//!
//! Leaves out rates and times of every kind, and everything that only one model has: that is tested with the model.

//pub mod bounds;
pub mod channels;
pub mod contracts;
//pub mod groups;
//pub mod lanes;
//pub mod leases;
//pub mod order;
mod peer;
pub mod publish;
//pub mod rate;
//pub mod resume;
mod rig;
//pub mod roles;
//pub mod seek;
mod session;
//pub mod settle;

pub use peer::{Ended, Got, Held};
pub use rig::{Rig, Tuning};
pub use session::{Channel, Item, Session, Who, numbered};

/// Makes the two macros, so that the list of cases stands once.
macro_rules! suites {
    ($($(#[$doc:meta])* $suite:ident, $names:ident: { $($module:ident: [$($case:ident),+ $(,)?]),+ $(,)? })+) => {
        suites!(@each ($) $($(#[$doc])* $suite, $names: { $($module: [$($case),+]),+ })+);
    };
    (@each ($d:tt) $($(#[$doc:meta])* $suite:ident, $names:ident: { $($module:ident: [$($case:ident),+]),+ })+) => {
        $(
            $(#[$doc])*
            #[macro_export]
            macro_rules! $suite {
                ($d rig:expr) => {
                    $(
                        mod $module {
                            #[allow(unused_imports, reason = "the expression names what stands around the macro")]
                            use super::*;
                            $(
                                #[test]
                                fn $case() {
                                    $d crate::conformance::$module::$case(&mut $d rig);
                                }
                            )+
                        }
                    )+
                };
            }

            /// The names of the suite's cases, `module::case`.
            pub const $names: &[&str] = &[$($(concat!(stringify!($module), "::", stringify!($case))),+),+];
        )+
    };
}

suites! {
    /// Makes a `#[test]` of every case, by its name. The expression gives a fresh [`Rig`](crate::conformance::Rig) and is
    /// evaluated once in each test. To be called inside a module of the backend's name.
    conformance_suite, CASES: {
        contracts: [
            every_contract_is_kept_by_settings_or_refused_with_a_reason,
            exactly_once_and_more_than_one_copy_are_refused,
            what_keeps_the_stronger_promise_keeps_the_weaker,
            the_backend_describes_itself,
            a_receiver_that_comes_later_finds_the_messages_or_the_contract_is_refused,
        ],
        channels: [
            channels_are_numbered_in_order_and_their_lanes_are_their_own,
            a_name_that_exists_is_refused,
            a_deleted_channel_is_gone,
            a_channel_without_lanes_is_refused,
            what_does_not_exist_is_refused,
            a_description_counts_what_was_published_and_taken,
        ],
        publish: [
            a_publish_is_done_with_its_lane_and_a_dense_position,
            every_message_is_delivered_once_where_it_was_published,
            keys_headers_and_payloads_arrive_byte_by_byte,
            a_message_that_is_too_large_is_refused_alone,
            a_batch_of_lengths_is_delivered_as_lengths_or_refused,
            a_flush_ends_after_the_publishes_before_it,
            a_producer_that_closes_leaves_what_was_acknowledged,
        ],
    }
}
