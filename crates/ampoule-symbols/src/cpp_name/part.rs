//! Parts of a name as text.

use std::rc::Rc;

/// Text that is cut behind a number of bytes. A text that holds it is cut there too, or earlier, so nothing is lost of what is
/// shown in the end.
#[derive(Clone, Debug)]
pub(super) struct Text {
    text: String,
    limit: usize,
}

impl Text {
    pub(super) fn new(limit: usize) -> Text {
        Text { text: String::new(), limit }
    }

    /// Adds this, up to the first character that is beyond the limit, so that one who looks at the length sees the cut.
    pub(super) fn push(&mut self, more: &str) {
        let room = (self.limit + 1).saturating_sub(self.text.len());
        self.text.push_str(&more[..more.ceil_char_boundary(room)]);
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    pub(super) fn into_string(self) -> String {
        self.text
    }
}

/// A type, or a name that may stand for one.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// What stands before the name of a variable of this type, and what stands behind it.
    pub(super) before: Text,
    pub(super) behind: Text,
    /// Whether it is a function or an array, to which a pointer is written in parentheses.
    pub(super) binds_behind: bool,
    /// The innermost name without its arguments, by which constructors are called.
    pub(super) base: Rc<str>,
}

impl Part {
    pub(super) fn named(text: Text, base: &str) -> Part {
        Part { behind: Text::new(text.limit), before: text, binds_behind: false, base: base.into() }
    }

    pub(super) fn text(&self) -> Text {
        let mut text = self.before.clone();
        text.push(self.behind.as_str());
        text
    }

    /// A pointer or a reference to this.
    pub(super) fn pointer(&self, symbol: &str) -> Part {
        let Part { mut before, mut behind, .. } = self.clone();
        if self.binds_behind {
            before.push("(");
            let mut closed = Text::new(behind.limit);
            closed.push(if behind.as_str().starts_with('[') { ") " } else { ")" });
            closed.push(behind.as_str());
            behind = closed;
        }
        before.push(symbol);
        Part { before, behind, binds_behind: false, base: "".into() }
    }

    /// This, with a qualifier.
    pub(super) fn qualified(&self, qualifier: &str) -> Part {
        let mut qualified = self.clone();
        let side = if self.binds_behind { &mut qualified.behind } else { &mut qualified.before };
        side.push(qualifier);
        qualified
    }
}
