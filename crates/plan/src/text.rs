//! The schemas of what is written in another shape than it is kept: one text, or a raw table.

/// Gives a type that is written as one text the schema of that text.
macro_rules! text_schema {
    ($type:ty, $name:literal, $pattern:expr, $description:literal) => {
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": $pattern, "description": $description })
            }
        }
    };
}

pub(crate) use text_schema;

/// Gives a type that is read from another the schema of that other.
macro_rules! schema_as {
    ($type:ty, $raw:ty) => {
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                <$raw as schemars::JsonSchema>::json_schema(generator)
            }
        }
    };
}

pub(crate) use schema_as;

/// Reads what is written as one text or as a table. Unlike an untagged enum it keeps what the table itself
/// says is wrong with it.
macro_rules! text_or_table {
    ($type:ident, $text:ident, $table:ident, $expecting:literal) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Either;
                impl<'de> serde::de::Visitor<'de> for Either {
                    type Value = $type;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($expecting)
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        serde::Deserialize::deserialize(serde::de::value::StrDeserializer::new(text))
                            .map($type::$text)
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<$type, A::Error> {
                        serde::Deserialize::deserialize(serde::de::value::MapAccessDeserializer::new(map))
                            .map($type::$table)
                    }
                }
                deserializer.deserialize_any(Either)
            }
        }
    };
}

pub(crate) use text_or_table;
