//! The embedded backends from outside: through the shared trait, on real files, with time as a number.

mod compaction;
mod crash;
mod damaged;
mod end_to_end;
mod engine;
mod faulty;
mod hard_times;
mod http;
mod loopback;
mod producers;
mod recovery;
mod restart;
mod store;
mod transactions;
mod world;
