//! Protobuf's encoding: fields of a number and a varint, eight bytes, four, or bytes of some length.
//!
//! Groups, which nobody writes any more, are refused.

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken(pub(super) &'static str);

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// A fixed number of bytes, as no field of the API is.
    Fixed,
}

impl<'a> Part<'a> {
    pub(super) fn number(self) -> Result<u64, Broken> {
        match self {
            Self::Number(number) => Ok(number),
            _ => Err(Broken("a number is of another type")),
        }
    }

    pub(super) fn bytes(self) -> Result<&'a [u8], Broken> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(Broken("a text or message is of another type")),
        }
    }

    pub(super) fn text(self) -> Result<&'a str, Broken> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Broken("a text is no UTF-8"))
    }
}

/// The fields of a message, in the order in which they come; ends at the first that is broken.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Part<'a>), Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = field(&mut self.0);
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

fn field<'a>(bytes: &mut &'a [u8]) -> Result<(u64, Part<'a>), Broken> {
    let tag = number(bytes)?;
    let part = match tag & 7 {
        0 => Part::Number(number(bytes)?),
        1 => take(bytes, 8).map(|_| Part::Fixed)?,
        2 => {
            let length = number(bytes)?;
            Part::Bytes(take(bytes, usize::try_from(length).unwrap_or(usize::MAX))?)
        }
        5 => take(bytes, 4).map(|_| Part::Fixed)?,
        _ => return Err(Broken("a field has a type that is not known")),
    };
    Ok((tag >> 3, part))
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], Broken> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or(Broken("it ends within a field"))?;
    *bytes = rest;
    Ok(taken)
}

/// A varint: seven bits a byte, the lowest first.
pub(super) fn number(bytes: &mut &[u8]) -> Result<u64, Broken> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(Broken("a number is longer than ten bytes"))
}
