//! JSON in one form only, so that it can be hashed and signed (RFC 8785, JSON Canonicalization Scheme).
//!
//! Members in the order of their names as UTF-16, no space, numbers as ECMAScript writes them. Text in which a
//! name comes twice is refused: two readers could see two different things.

use crate::number;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// What has no canonical form.
#[derive(Debug, thiserror::Error)]
pub enum CanonicalError {
    /// The text is no JSON, or a name comes twice in it.
    #[error("read JSON")]
    Malformed(#[source] serde_json::Error),
    /// A number that no double holds exactly, or that is none.
    #[error("the number {0} cannot be written exactly in every reader's arithmetic (RFC 8785, 3.2.2.3)")]
    Number(String),
}

/// Reads JSON text. Nothing may follow it.
///
/// # Errors
/// [`CanonicalError::Malformed`] with line and column.
pub fn parse(text: &[u8]) -> Result<Value, CanonicalError> {
    serde_json::from_slice::<Strict>(text).map(|strict| strict.0).map_err(CanonicalError::Malformed)
}

/// The canonical form, as UTF-8.
///
/// # Errors
/// [`CanonicalError::Number`].
pub fn to_bytes(value: &Value) -> Result<Vec<u8>, CanonicalError> {
    let mut out = String::new();
    write(value, &mut out)?;
    Ok(out.into_bytes())
}

fn write(value: &Value, out: &mut String) -> Result<(), CanonicalError> {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => out.push_str(&number_text(number)?),
        Value::String(text) => write_string(text, out),
        Value::Array(items) => write_array(items, out)?,
        Value::Object(members) => write_object(members, out)?,
    }
    Ok(())
}

fn write_array(items: &[Value], out: &mut String) -> Result<(), CanonicalError> {
    out.push('[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write(item, out)?;
    }
    out.push(']');
    Ok(())
}

fn write_object(members: &Map<String, Value>, out: &mut String) -> Result<(), CanonicalError> {
    let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
    sorted.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
    out.push('{');
    for (index, (name, value)) in sorted.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_string(name, out);
        out.push(':');
        write(value, out)?;
    }
    out.push('}');
    Ok(())
}

fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// An integer is a double here, and refused where that would be another number.
fn number_text(number: &Number) -> Result<String, CanonicalError> {
    let refused = || CanonicalError::Number(number.to_string());
    let integer = number.as_u64().map(i128::from).or_else(|| number.as_i64().map(i128::from));
    let value = number.as_f64().ok_or_else(refused)?;
    if integer.is_some_and(|integer| value as i128 != integer) {
        return Err(refused());
    }
    number::text(value).ok_or_else(refused)
}

/// A value that was read without a name that comes twice.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Strict;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Strict, E> {
        Ok(Strict(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Strict, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("a number is none"))?;
        Ok(Strict(number.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Strict, A::Error> {
        let mut items = Vec::new();
        while let Some(Strict(item)) = sequence.next_element()? {
            items.push(item);
        }
        Ok(Strict(Value::Array(items)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Strict, A::Error> {
        let mut members = Map::new();
        while let Some((name, Strict(value))) = map.next_entry::<String, Strict>()? {
            if members.contains_key(&name) {
                return Err(de::Error::custom(format!("the name {name:?} comes twice")));
            }
            members.insert(name, value);
        }
        Ok(Strict(Value::Object(members)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        String::from_utf8(to_bytes(&parse(text.as_bytes()).unwrap()).unwrap()).unwrap()
    }

    /// RFC 8785, section 3.2.2 and 3.2.4.
    #[test]
    fn the_sample_of_the_rfc() {
        let text = r#"{
            "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
            "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
            "literals": [null, true, false]
        }"#;
        let expected = r#"{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}"#;
        assert_eq!(canonical(text), expected);
    }

    /// RFC 8785, section 3.2.3.
    #[test]
    fn members_are_in_the_order_of_utf_16() {
        let text = r#"{
            "\u20ac": "Euro Sign",
            "\r": "Carriage Return",
            "\ufb33": "Hebrew Letter Dalet With Dagesh",
            "1": "One",
            "\ud83d\ude00": "Emoji: Grinning Face",
            "\u0080": "Control",
            "\u00f6": "Latin Small Letter O With Diaeresis"
        }"#;
        let canonical = canonical(text);
        let order = ["Carriage", "One", "Control", "Latin", "Euro", "Emoji", "Hebrew"];
        let places: Vec<usize> = order.iter().map(|word| canonical.find(word).unwrap()).collect();
        assert!(places.is_sorted(), "{canonical}");
    }

    #[test]
    fn the_canonical_form_is_its_own() {
        for text in
            [r#"{"a":[],"b":{}}"#, r#"[1e+23,0.000001,-5e-324]"#, r#""\u0000\u001f""#, "9007199254740994"]
        {
            assert_eq!(canonical(text), text);
        }
        assert_eq!(canonical(" [ 1.0 , -0 , -0.0, 1E2 ] "), "[1,0,0,100]");
    }

    #[test]
    fn what_two_readers_could_see_differently_is_refused() {
        for text in [r#"{"a":1,"a":2}"#, r#"[{"b":{"a":1,"\u0061":1}}]"#] {
            let error = lifeboat_base::report(&parse(text.as_bytes()).unwrap_err());
            assert!(error.contains("comes twice at line 1"), "{error}");
        }
        for text in ["9007199254740993", "18446744073709551615", "-9007199254740993"] {
            let refused = to_bytes(&parse(text.as_bytes()).unwrap());
            assert!(matches!(&refused, Err(CanonicalError::Number(number)) if number == text), "{refused:?}");
        }
        for text in ["", "{", "NaN", "[1,]", "1 2", r#""\ud800""#, "1e999", "\u{feff}1"] {
            assert!(matches!(parse(text.as_bytes()), Err(CanonicalError::Malformed(_))), "{text}");
        }
        let deep = "[".repeat(100_000);
        assert!(parse(deep.as_bytes()).is_err());
    }
}
