//! `brokerlab backends`: what each backend is, and the promise ladder: every contract × backend, kept by which settings or
//! refused for what.

use std::fmt::Write as _;

use anyhow::Context as _;
use brokerlab_embedded::{BackendUrl, Kind, catalogue, honour};
use brokerlab_live::{Documented, documented};
use brokerlab_model::{Capabilities, Contract, Feature, Order};
use brokerlab_reports::result::{LadderAnswer, LadderRow};
use brokerlab_workloads::measurement::World;
use clap::Args;
use serde_json::json;

use crate::exit::{BadInput, Exit};
use crate::progress;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  brokerlab backends
  brokerlab backends --contract at-least-once,per-key,fsync,decoupled
  brokerlab backends --ladder")]
pub(crate) struct BackendsArgs {
    /// Only this contract: who keeps it by which settings, who refuses it for what.
    #[arg(long, value_name = "WORDS")]
    contract: Option<String>,
    /// The whole promise ladder, settings and reasons included.
    #[arg(long)]
    ladder: bool,
    /// One JSON document on standard output.
    #[arg(long)]
    json: bool,
}

pub(crate) fn backends(args: &BackendsArgs) -> anyhow::Result<Exit> {
    let rows = match &args.contract {
        Some(words) => vec![row(words.parse().map_err(BadInput::error)?, &urls())],
        None => ladder(),
    };
    let text = if args.json {
        let live = documented();
        let backends: Vec<_> = catalogue().iter().map(listed).chain(live.iter().map(documented_json)).collect();
        let document = json!({ "backends": backends, "promise_ladder": rows });
        serde_json::to_string_pretty(&document).context("can't write the document")?
    } else if args.contract.is_some() || args.ladder {
        rows.iter().map(explained).collect()
    } else {
        overview(&rows)
    };
    progress::print(&text);
    Ok(Exit::Success)
}

/// The ranked backends by their plain names.
fn urls() -> Vec<BackendUrl> {
    let ranked = Kind::ALL.iter().filter(|kind| **kind != Kind::Null);
    ranked.filter_map(|kind| BackendUrl::parse(kind.name()).ok()).collect()
}

/// The ranked backends that keep every one of these contracts as they are, by their plain names.
pub(crate) fn keeping(contracts: &[Contract]) -> Vec<String> {
    let keeps = |url: &BackendUrl| contracts.iter().all(|contract| honour(url, contract).is_ok());
    urls().iter().filter(|url| keeps(url)).map(|url| url.name().to_owned()).collect()
}

/// Every contract × backend.
pub(crate) fn ladder() -> Vec<LadderRow> {
    let urls = urls();
    Contract::ladder().into_iter().map(|contract| row(contract, &urls)).collect()
}

fn row(contract: Contract, urls: &[BackendUrl]) -> LadderRow {
    let answers = urls
        .iter()
        .map(|url| LadderAnswer { backend: url.name().to_owned(), answer: honour(url, &contract) })
        .collect();
    LadderRow { contract, answers }
}

fn limits(capabilities: &Capabilities) -> Vec<serde_json::Value> {
    let limits = capabilities.limits.iter();
    limits.map(|limit| json!({ "name": limit.name, "value": limit.value, "source": limit.source })).collect()
}

fn listed(listed: &brokerlab_embedded::Listed) -> serde_json::Value {
    let capabilities = &listed.capabilities;
    json!({
        "name": capabilities.name,
        "world": World::Embedded,
        "lane": capabilities.words.lane,
        "orders": orders(listed.kind.name()),
        "features": capabilities.features,
        "absent": absent(capabilities),
        "by_parameter": by_parameter(listed.kind, capabilities)
            .iter()
            .map(|(feature, name)| json!({ "feature": feature, "parameter": name }))
            .collect::<Vec<_>>(),
        "max_message_bytes": capabilities.max_message_bytes,
        "limits": limits(capabilities),
        "parameters": listed.parameters()
            .map(|parameter| json!({ "name": parameter.name, "what": parameter.what }))
            .collect::<Vec<_>>(),
        "presets": listed.presets.iter()
            .map(|(name, capabilities)| json!({ "name": name, "limits": limits(capabilities) }))
            .collect::<Vec<_>>(),
    })
}

fn documented_json(of: &Documented) -> serde_json::Value {
    let capabilities = &of.capabilities;
    json!({
        "name": capabilities.name,
        "world": World::Live,
        "lane": capabilities.words.lane,
        "orders": of.orders,
        "features": capabilities.features,
        "absent": absent(capabilities),
        "max_message_bytes": capabilities.max_message_bytes,
        "limits": limits(capabilities),
        "parameters": [],
        "presets": [],
    })
}

/// The features that a backend has not.
fn absent(capabilities: &Capabilities) -> Vec<Feature> {
    Feature::ALL.iter().copied().filter(|feature| !capabilities.has(*feature)).collect()
}

/// What a backend has by a parameter that has to be written, with the parameter.
fn by_parameter(kind: Kind, plain: &Capabilities) -> Vec<(Feature, &'static str)> {
    const SET: &[(&str, &str)] = &[
        ("priorities", "9"),
        ("max_length", "1"),
        ("deduplication", "5min"),
        ("message_groups", "on"),
        ("dead_letter", "channel"),
    ];
    let with = |&(name, value): &(&'static str, &str)| {
        let url = BackendUrl::parse(&format!("{}?{name}={value}", kind.name())).ok()?;
        Some((name, brokerlab_embedded::capabilities(&url, &Contract::default()).ok()?))
    };
    let mut found: Vec<(Feature, &'static str)> = Vec::new();
    for (name, capabilities) in SET.iter().filter_map(with) {
        let new = |feature: &&Feature| capabilities.has(**feature) && !plain.has(**feature);
        found.extend(Feature::ALL.iter().filter(new).map(|feature| (*feature, name)));
    }
    // A log that is not compacted says that it can be.
    found.extend((kind == Kind::Log).then_some((Feature::Compaction, "cleanup")));
    found
}

/// The orders that an embedded backend keeps by itself.
fn orders(name: &str) -> Vec<Order> {
    let Ok(url) = BackendUrl::parse(name) else { return Vec::new() };
    let keeps = |order: &Order| honour(&url, &Contract { order: *order, ..Contract::default() }).is_ok();
    Order::ALL.iter().copied().filter(keeps).collect()
}

/// A backend in the table: name, orders, what it has, and what it has by a parameter.
type Column<'c> = (&'c str, Vec<Order>, &'c Capabilities, Vec<(Feature, &'static str)>);

/// One line for each order and feature, one column for each backend, real ones last.
fn table(text: &mut String) {
    let embedded = catalogue();
    let live = documented();
    let mut columns: Vec<Column<'_>> = embedded
        .iter()
        .map(|of| (of.kind.name(), orders(of.kind.name()), &of.capabilities, by_parameter(of.kind, &of.capabilities)))
        .collect();
    columns.extend(live.iter().map(|of| (of.capabilities.name, of.orders.clone(), &of.capabilities, Vec::new())));
    let longest = |by: &[(Feature, &str)]| by.iter().map(|(_, parameter)| parameter.len() + 1).max().unwrap_or(0);
    let widths: Vec<usize> = columns.iter().map(|(.., by)| (longest(by) + 2).max(10)).collect();
    let mut row = |what: &str, marks: Vec<String>| {
        let _ = write!(text, "  {what:<34}");
        for (mark, width) in marks.iter().zip(&widths) {
            let _ = write!(text, "{mark:<width$}");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    };
    let mark = |has: bool| if has { "yes" } else { "-" }.to_owned();
    row("", columns.iter().map(|(name, ..)| (*name).to_owned()).collect());
    for (order, what) in [(Order::PerKey, "order of a key"), (Order::Total, "one order for all")] {
        row(what, columns.iter().map(|(_, orders, ..)| mark(orders.contains(&order))).collect());
    }
    for feature in Feature::ALL {
        let of_column = |(_, _, of, by): &Column<'_>| {
            let setting = by.iter().find(|(known, _)| known == feature);
            setting.map_or_else(|| mark(of.has(*feature)), |(_, parameter)| format!("?{parameter}"))
        };
        row(feature.name(), columns.iter().map(of_column).collect());
    }
    row("largest message, bytes", columns.iter().map(|(_, _, of, _)| of.max_message_bytes.to_string()).collect());
    text.push_str("  ?name: by that parameter, which is not set unless you write it.\n");
    text.push_str(
        "  Windows over a stream are computed by a group's consumers (analytics of a profile's group), on any backend alike.\n",
    );
    if live.is_empty() {
        text.push_str("  Kafka and RabbitMQ are listed where their drivers are built in: --features live.\n");
    } else {
        text.push_str("  Real brokers as documented, under the default contract; `run` asks the server at hand.\n");
    }
}

/// A noun with its indefinite article.
fn with_article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {noun}")
}

/// What each backend is, then one line for each contract.
fn overview(rows: &[LadderRow]) -> String {
    let mut text = String::from(
        "Embedded backends: models in one process, not Kafka, RabbitMQ, SQS or Kinesis; shapes and counts carry over, rates do not.\n",
    );
    text.push('\n');
    table(&mut text);
    for of in documented() {
        let capabilities = &of.capabilities;
        let _ = writeln!(text, "\n{}  (its lane is {})", capabilities.name, with_article(capabilities.words.lane));
        for limit in &capabilities.limits {
            let _ = writeln!(text, "  limit    {}: {} ({})", limit.name, limit.value, limit.source);
        }
    }
    for listed in catalogue() {
        let capabilities = &listed.capabilities;
        let _ = writeln!(text, "\n{}  (its lane is {})", capabilities.name, with_article(capabilities.words.lane));
        for limit in &capabilities.limits {
            let _ = writeln!(text, "  limit    {}: {} ({})", limit.name, limit.value, limit.source);
        }
        for parameter in listed.parameters() {
            let _ = writeln!(text, "  ?{:<24} {}", parameter.name, parameter.what);
        }
        for (name, capabilities) in &listed.presets {
            let _ = writeln!(text, "  ?as={name}");
            for limit in &capabilities.limits {
                let _ = writeln!(text, "      {}: {} ({})", limit.name, limit.value, limit.source);
            }
        }
    }
    text.push_str("\nLanes default to what the profile's consumers, and for shards its rate and bytes, need; --lanes or a parameter sets them.\n");
    text.push_str(
        "\nPromise ladder (yes: kept; -: refused; --ladder or --contract tells by which settings, or for what)\n",
    );
    let names: Vec<_> =
        rows.first().map(|row| row.answers.iter().map(|a| a.backend.as_str()).collect()).unwrap_or_default();
    let columns = |cells: &[&str]| {
        cells.iter().fold(String::new(), |mut line, cell| {
            let _ = write!(line, "{cell:<8}");
            line
        })
    };
    let _ = writeln!(text, "  {:<66}{}", "", columns(&names));
    for row in rows {
        let marks: Vec<_> = row.answers.iter().map(|a| if a.answer.is_ok() { "yes" } else { "-" }).collect();
        let _ = writeln!(text, "  {:<66}{}", row.contract.to_string(), columns(&marks));
    }
    text
}

fn explained(row: &LadderRow) -> String {
    let mut text = format!("{}\n", row.contract);
    for answer in &row.answers {
        match &answer.answer {
            Ok(settings) => {
                let _ = writeln!(text, "  {}: kept by", answer.backend);
                for setting in &settings.0 {
                    let _ = writeln!(text, "      {} = {}  ({})", setting.name, setting.value, setting.why);
                }
            }
            Err(unsupported) => {
                let _ = writeln!(text, "  {}: refused", answer.backend);
                for missing in &unsupported.missing {
                    let _ = writeln!(text, "      {} {}: {}", missing.axis, missing.asked, missing.reason);
                }
            }
        }
    }
    text
}
