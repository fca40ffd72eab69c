//! What a record of a tracepoint looks like, as tracefs tells it.

/// A tracepoint's number, and where in its records its fields lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) id: u64,
    fields: Vec<(String, Field)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field {
    offset: usize,
    size: usize,
}

impl Format {
    /// Reads an event's file `format`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let id = text.lines().find_map(|line| line.strip_prefix("ID:"))?;
        let fields = text.lines().filter_map(field).collect();
        Some(Self {
            id: id.trim().parse().ok()?,
            fields,
        })
    }

    pub(crate) fn field(&self, name: &str) -> Option<Field> {
        let mut fields = self.fields.iter();
        let (_, field) = fields.find(|(known, _)| known == name)?;
        Some(*field)
    }
}

/// `field:unsigned msr; offset:8; size:4; signed:0;`, with tabs.
fn field(line: &str) -> Option<(String, Field)> {
    let line = line.trim_start().strip_prefix("field:")?;
    let mut parts = line.split(';').map(str::trim);
    let declaration = parts.next()?;
    let name = declaration.rsplit([' ', '*']).next()?;
    let mut number = |label: &str| parts.next()?.strip_prefix(label)?.parse().ok();
    let field = Field {
        offset: number("offset:")?,
        size: number("size:")?,
    };
    Some((name.to_owned(), field))
}

impl Field {
    /// The number in a record, without its sign; `None` if it does not lie there.
    pub(crate) fn read(self, record: &[u8]) -> Option<u64> {
        let end = self.offset.checked_add(self.size)?;
        let bytes = record.get(self.offset..end)?;
        let mut word = [0; 8];
        word.get_mut(..self.size)?.copy_from_slice(bytes);
        Some(u64::from_le_bytes(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE_MSR: &str = "name: write_msr\nID: 2153\nformat:\n\
        \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
        \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
        \tfield:unsigned msr;\toffset:8;\tsize:4;\tsigned:0;\n\
        \tfield:u64 val;\toffset:16;\tsize:8;\tsigned:0;\n\
        \tfield:void * timer;\toffset:24;\tsize:8;\tsigned:0;\n\
        \tfield:char comm[16];\toffset:32;\tsize:16;\tsigned:0;\n\n\
        print fmt: \"%x, value %llx\", REC->msr, REC->val\n";

    #[test]
    fn fields_are_found_where_the_kernel_says() {
        let format = Format::parse(WRITE_MSR).unwrap();
        assert_eq!(format.id, 2153);
        let mut record = vec![0; 32];
        record[8] = 0x33;
        record[16..24].copy_from_slice(&0x2000_0001u64.to_le_bytes());
        let read = |name: &str| format.field(name)?.read(&record);
        assert_eq!(read("msr"), Some(0x33));
        assert_eq!(read("val"), Some(0x2000_0001));
        assert_eq!(read("timer"), Some(0));
        assert_eq!(read("comm[16]"), None);
        assert_eq!(read("cpu"), None);
        assert_eq!(format.field("val").unwrap().read(&record[..20]), None);
    }

    #[test]
    fn what_is_no_format_is_refused() {
        for text in ["", "ID: x\n", "name: a\n", "ID:\n\tfield:int a;\toffset:0;"] {
            assert_eq!(Format::parse(text), None, "{text:?}");
        }
        let damaged = Format::parse("ID: 1\n\tfield:int a;\toffset:b;\tsize:4;\n").unwrap();
        assert_eq!(damaged.field("a"), None);
    }
}
