//! The points of a sweep: a grid from `--vary`, or a list from a TOML or CSV file.
//!
//! Leaves out whether a path is a field and a value fits it: the profile's own check says so, point by point.

use std::fmt;
use std::path::Path;

use brokerlab_workloads::measurement::Varied;
use brokerlab_workloads::profile::{self, ProfileError};

use crate::drive;
use crate::exit::BadInput;

/// More points than this are a slip rather than a plan.
const POINTS_MOST: usize = 1_000;

/// What one point sets, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings(pub Vec<Varied>);

impl Settings {
    /// As overrides of the profile.
    pub(super) fn as_sets(&self) -> impl Iterator<Item = (String, String)> + '_ {
        self.0.iter().map(|setting| (setting.path.clone(), setting.value.clone()))
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(|s| format!("{}={}", s.path, s.value)).collect();
        f.write_str(&texts.join(" "))
    }
}

/// Points and where they come from.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// `--vary`, or the file's name.
    pub name: String,
    /// In the order of the grid or list.
    pub points: Vec<Settings>,
}

impl Source {
    /// A fault that the profile's check found, told by where the setting was written.
    pub(super) fn blame(&self, mut error: ProfileError, point: &Settings) -> anyhow::Error {
        if let Some(path) = error.file.strip_prefix("--set ")
            && point.0.iter().any(|setting| setting.path == path)
        {
            error.file = format!("{} {path}", self.name);
            error.remedy = drive::short_form_meant(&error).unwrap_or(error.remedy);
        }
        BadInput::error(error)
    }
}

/// The cartesian product of `path=v1,v2,…`; the last one changes fastest.
pub(super) fn grid(vary: &[String]) -> anyhow::Result<Source> {
    if vary.is_empty() {
        return Err(BadInput::error(
            "nothing is varied; give --vary PATH=V1,V2,… (for example --vary rate=5k/s,20k/s) or --list FILE",
        ));
    }
    let mut points = vec![Settings(Vec::new())];
    for text in vary {
        let (path, values) = text.split_once('=').ok_or_else(|| {
            BadInput::error(format!(
                "--vary {text}: there is no `=`; write --vary path.to.field=v1,v2, for example --vary lanes=1,4"
            ))
        })?;
        let path = full_path(path, "--vary")?;
        if points[0].0.iter().any(|setting| setting.path == path) {
            return Err(BadInput::error(format!("--vary {path} is given twice; write all its values after one")));
        }
        let values = split(values);
        if values.iter().any(String::is_empty) {
            return Err(BadInput::error(format!("--vary {text}: a value is empty; write --vary {path}=v1,v2")));
        }
        if points.len() * values.len() > POINTS_MOST {
            return Err(BadInput::error(format!(
                "--vary {text}: the grid has more than {POINTS_MOST} points; vary less, or list the points that matter with --list"
            )));
        }
        let with = |point: &Settings, value: &String| {
            let mut settings = point.0.clone();
            settings.push(Varied { path: path.clone(), value: value.clone() });
            Settings(settings)
        };
        points =
            points.iter().flat_map(|point| values.iter().map(|value| with(point, value)).collect::<Vec<_>>()).collect();
    }
    Ok(Source { name: "--vary".to_owned(), points })
}

/// The points of a file: `.toml` or `.csv`.
pub(super) fn listed(path: &Path) -> anyhow::Result<Source> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| BadInput::error(format!("--list {name}: {error}; name a TOML or CSV file of points")))?;
    let points = match path.extension().and_then(|ending| ending.to_str()) {
        Some("toml") => from_toml(&text, &name)?,
        Some("csv") => from_csv(&text, &name)?,
        Some(_) | None => {
            return Err(BadInput::error(format!(
                "--list {name}: its name ends neither in .toml nor in .csv; rename it to what it is"
            )));
        }
    };
    if points.is_empty() {
        return Err(BadInput::error(format!(
            "{name}: no point is in it; write a line (CSV) or a [[points]] (TOML) for each"
        )));
    }
    if points.len() > POINTS_MOST {
        return Err(BadInput::error(format!("{name}: more than {POINTS_MOST} points; split it")));
    }
    Ok(Source { name, points })
}

/// A first line of paths, then a line a point; an empty field leaves the profile as it is.
fn from_csv(text: &str, name: &str) -> anyhow::Result<Vec<Settings>> {
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let Some((_, head)) = lines.next() else { return Ok(Vec::new()) };
    let paths = split(head).iter().map(|path| full_path(path, name)).collect::<Result<Vec<_>, _>>()?;
    let mut points = Vec::new();
    for (n, line) in lines {
        let values = split(line);
        if values.len() != paths.len() {
            return Err(BadInput::error(format!(
                "{name}:{}: {} values under {} fields; give each line one value a field, and quote a value with a comma",
                n + 1,
                values.len(),
                paths.len()
            )));
        }
        let set = paths.iter().cloned().zip(values).filter(|(_, value)| !value.is_empty());
        points.push(Settings(set.map(|(path, value)| Varied { path, value }).collect()));
    }
    Ok(points)
}

/// `[[points]]`, each a table of paths and values; a table in it stands for the fields below it.
fn from_toml(text: &str, name: &str) -> anyhow::Result<Vec<Settings>> {
    let remedy = "write [[points]] for each point and under it \"path.to.field\" = value";
    let document: toml::Table =
        toml::from_str(text).map_err(|error| BadInput::error(format!("{name}: {}; {remedy}", error.message())))?;
    if let Some(key) = document.keys().find(|key| *key != "points") {
        return Err(BadInput::error(format!("{name}: unknown key `{key}`; {remedy}")));
    }
    let Some(toml::Value::Array(tables)) = document.get("points") else { return Ok(Vec::new()) };
    let mut points = Vec::new();
    for table in tables {
        let toml::Value::Table(table) = table else {
            return Err(BadInput::error(format!("{name}: a point that is no table; {remedy}")));
        };
        let mut settings = Vec::new();
        flatten("", table, &mut settings);
        for setting in &mut settings {
            setting.path = full_path(&setting.path, name)?;
        }
        points.push(Settings(settings));
    }
    Ok(points)
}

fn flatten(before: &str, table: &toml::Table, settings: &mut Vec<Varied>) {
    for (key, value) in table {
        let path = if before.is_empty() { key.clone() } else { format!("{before}.{key}") };
        match value {
            toml::Value::Table(below) => flatten(&path, below, settings),
            // Text is taken as it stands, as a value on the command line is: `"20k/s"` and `20k/s` mean the same there.
            toml::Value::String(text) => settings.push(Varied { path, value: text.clone() }),
            toml::Value::Integer(_)
            | toml::Value::Float(_)
            | toml::Value::Boolean(_)
            | toml::Value::Datetime(_)
            | toml::Value::Array(_) => settings.push(Varied { path, value: value.to_string() }),
        }
    }
}

/// A field's path: a short form of the command line stands for what it sets there.
fn full_path(text: &str, source: &str) -> anyhow::Result<String> {
    let text = text.trim();
    let path = profile::set_paths().iter().find(|(short, _)| *short == text).map_or(text, |(_, path)| path);
    if path.is_empty() {
        return Err(BadInput::error(format!("{source}: a field has no name; write a path such as arrivals.rate")));
    }
    if path == "objectives" || path.starts_with("objectives.") {
        return Err(BadInput::error(format!(
            "{source} {path}: all points of a sweep are held against the same objectives; set them for all with --set"
        )));
    }
    Ok(path.to_owned())
}

/// Splits at commas that stand outside quotes, brackets and braces; what was quoted as a whole loses its quotes.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let (mut depth, mut quote) = (0_i32, None);
    for letter in text.chars() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (None, '"' | '\'') => quote = Some(letter),
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => depth -= 1,
            (None, ',') if depth <= 0 => {
                parts.push(String::new());
                continue;
            }
            (Some(_) | None, _) => {}
        }
        if let Some(part) = parts.last_mut() {
            part.push(letter);
        }
    }
    parts.iter().map(|part| unquoted(part.trim()).to_owned()).collect()
}

fn unquoted(text: &str) -> &str {
    let inside = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inside.filter(|inside| !inside.contains('"')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(points: &[Settings]) -> Vec<String> {
        points.iter().map(ToString::to_string).collect()
    }

    fn fault<T: fmt::Debug>(result: anyhow::Result<T>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn a_grid_is_the_product_and_its_last_field_changes_fastest() {
        let vary = ["rate=5k/s,20k/s".to_owned(), "lanes=1,4".to_owned()];
        let expected = [
            "arrivals.rate=5k/s lanes=1",
            "arrivals.rate=5k/s lanes=4",
            "arrivals.rate=20k/s lanes=1",
            "arrivals.rate=20k/s lanes=4",
        ];
        assert_eq!(texts(&grid(&vary).unwrap().points), expected);
    }

    #[test]
    fn a_comma_inside_quotes_or_brackets_splits_nothing() {
        assert_eq!(split(r#""per-key,fsync","none""#), ["per-key,fsync", "none"]);
        assert_eq!(split(r#"{ kind = "poisson", rate = "5k/s" },x"#), [r#"{ kind = "poisson", rate = "5k/s" }"#, "x"]);
        assert_eq!(split("[1,2], 3"), ["[1,2]", "3"]);
    }

    #[test]
    fn a_list_is_read_from_csv_and_from_toml() {
        let csv = from_csv("# mine\nrate,\"groups.*.members\"\n5k/s,1\n20k/s,\n", "points.csv").unwrap();
        assert_eq!(texts(&csv), ["arrivals.rate=5k/s groups.*.members=1", "arrivals.rate=20k/s"]);
        let toml = "[[points]]\narrivals.rate = \"5k/s\"\nlanes = 4\n[[points]]\n\"groups.*.members\" = 2\n";
        assert_eq!(
            texts(&from_toml(toml, "points.toml").unwrap()),
            ["arrivals.rate=5k/s lanes=4", "groups.*.members=2"]
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_its_remedy() {
        assert!(fault(grid(&[])).contains("give --vary PATH=V1,V2"));
        assert!(fault(grid(&["lanes".to_owned()])).contains("write --vary path.to.field=v1,v2"));
        assert!(fault(grid(&["lanes=1,,2".to_owned()])).contains("a value is empty"));
        assert!(fault(grid(&["lanes=1".to_owned(), "lanes=2".to_owned()])).contains("given twice"));
        assert!(fault(grid(&["objectives=x".to_owned()])).contains("the same objectives"));
        assert!(fault(grid(&["=1".to_owned()])).contains("a field has no name"));
        let many: Vec<String> = (0..1_001).map(|n| n.to_string()).collect();
        assert!(fault(grid(&[format!("seed={}", many.join(","))])).contains("more than 1000 points"));
        assert!(fault(from_csv("lanes,seed\n1\n", "p.csv")).starts_with("p.csv:2: 1 values under 2 fields"));
        assert!(fault(from_toml("point = 1", "p.toml")).contains("unknown key `point`"));
        assert!(fault(from_toml("points = [1]", "p.toml")).contains("no table"));
        assert!(fault(from_toml("points", "p.toml")).contains("write [[points]]"));
    }
}
