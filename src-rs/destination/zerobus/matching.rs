//! Two schemas side by side: what comes from where, and what is wrong.
//!
//! Invariants:
//! - One error names every column that is wrong, each as a dotted path.
//! - No row is looked at.

use arrow::datatypes::{DataType, FieldRef, Fields, Schema};

use super::types::{TypeRule, rule};

/// But for labels, which nothing here goes by.
pub fn same(one: &Schema, other: &Schema) -> bool {
    let (one, other) = (one.fields(), other.fields());
    let field = |(one, other): (&FieldRef, &FieldRef)| {
        one.name() == other.name() && one.data_type() == other.data_type()
    };
    one.len() == other.len() && one.iter().zip(other).all(field)
}

/// Where each wanted field comes from, by name.
pub fn matched(
    given: &Fields,
    wanted: &Fields,
    path: &str,
    mistakes: &mut Vec<(String, String)>,
) -> Vec<Option<usize>> {
    for (index, field) in given.iter().enumerate() {
        let at = under(path, field.name());
        if given
            .iter()
            .take(index)
            .any(|earlier| earlier.name() == field.name())
        {
            mistakes.push((at, "there are two of that name".into()));
        } else if wanted.find(field.name()).is_none() {
            let text = format!("given as {}, and the table has no such column", field.data_type());
            mistakes.push((at, text));
        }
    }
    wanted
        .iter()
        .map(|wanted| {
            let at = under(path, wanted.name());
            match given.find(wanted.name()) {
                Some((index, given)) => {
                    judge(given.data_type(), wanted.data_type(), &at, mistakes);
                    Some(index)
                }
                None => {
                    if !wanted.is_nullable() {
                        let text = format!("not given, and the table requires it as {}", wanted.data_type());
                        mistakes.push((at, text));
                    }
                    None
                }
            }
        })
        .collect()
}

/// Whether one type can become the other, all the way down.
fn judge(given: &DataType, wanted: &DataType, path: &str, mistakes: &mut Vec<(String, String)>) {
    match rule(given, wanted) {
        Some(TypeRule::Same | TypeRule::Exact | TypeRule::Checked | TypeRule::Nulls) => {}
        Some(TypeRule::Decoded(values)) => judge(&values, wanted, path, mistakes),
        Some(TypeRule::Struct(given, wanted)) => {
            matched(given, wanted, path, mistakes);
        }
        Some(TypeRule::List(given, wanted)) => judge(given.data_type(), wanted.data_type(), path, mistakes),
        Some(TypeRule::Map(given, wanted)) => {
            for (given, wanted) in given.iter().zip(wanted) {
                let at = under(path, wanted.name());
                judge(given.data_type(), wanted.data_type(), &at, mistakes);
            }
        }
        None => {
            let text = format!("given as {given}, wanted as {wanted}{}", cure(given, wanted));
            mistakes.push((path.to_string(), text));
        }
    }
}

/// What to change, where it is not plain from the two types.
fn cure(given: &DataType, wanted: &DataType) -> &'static str {
    match (given, wanted) {
        (DataType::Timestamp(_, None), DataType::Timestamp(_, Some(_))) => {
            ": TIMESTAMP holds instants, and without a time zone these are readings of a clock; give the type the zone that they were read in, such as \"UTC\" (any unit will do), or make the column TIMESTAMP_NTZ"
        }
        (DataType::Timestamp(_, Some(_)), DataType::Timestamp(_, None)) => {
            ": TIMESTAMP_NTZ holds readings of a clock, and with a time zone these are instants; give the type no zone (any unit will do), or make the column TIMESTAMP"
        }
        _ => "",
    }
}

pub fn under(path: &str, name: &str) -> String {
    match path {
        "" => name.to_string(),
        path => format!("{path}.{name}"),
    }
}
