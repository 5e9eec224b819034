//! The examples are in `hosts/`, one program each, and their guests in `guests/`.
