//! A disk on top of another one, that changes what a few calls do.
//!
//! What a [`Layer`] does not say itself is left to the disk below it, calls that come with a later
//! version included: a hint that stops halfway down is worth nothing.

use crate::disk::{Disk, DiskError};

/// The files of the disk below.
type File<L> = <<L as Layer>::Below as Disk>::File;

/// Writes down once what a layer and the disk that it makes have in common.
macro_rules! layer {
    ($(fn $call:ident(&mut self $(, $arg:ident: $type:ty)*) $(-> $result:ty)?;)*) => {
        /// A disk that is like the one [below](Layer::below) it in all that it does not define itself.
        ///
        /// Whoever is a `Layer` is a [`Disk`]. Calls are best made to that: import `Disk`, not `Layer`.
        pub trait Layer {
            /// The disk below.
            type Below: Disk;

            /// The disk below.
            fn below(&mut self) -> &mut Self::Below;

            $(
                #[doc = concat!("As [`Disk::", stringify!($call), "`].")]
                ///
                /// # Errors
                /// As there.
                fn $call(&mut self $(, $arg: $type)*) $(-> $result)? {
                    self.below().$call($($arg),*)
                }
            )*
        }

        impl<L: Layer> Disk for L {
            type File = File<L>;

            $(
                fn $call(&mut self $(, $arg: $type)*) $(-> $result)? {
                    Layer::$call(self $(, $arg)*)
                }
            )*
        }
    };
}

layer! {
    fn open(&mut self, path: &str) -> Result<File<Self>, DiskError>;
    fn create(&mut self, path: &str, len: u64) -> Result<File<Self>, DiskError>;
    fn has_room(&mut self, bytes: u64) -> bool;
    fn may_change(&mut self, dir: &str) -> Result<(), DiskError>;
    fn len(&mut self, file: &File<Self>) -> Result<u64, DiskError>;
    fn read(&mut self, file: &File<Self>, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError>;
    fn read_ahead_bytes(&mut self) -> u64;
    fn forget(&mut self, file: &File<Self>);
    fn write(&mut self, file: &File<Self>, offset: u64, data: &[u8]) -> Result<(), DiskError>;
    fn sync(&mut self, file: &File<Self>) -> Result<(), DiskError>;
    fn create_dir(&mut self, path: &str) -> Result<(), DiskError>;
    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError>;
    fn remove(&mut self, path: &str) -> Result<(), DiskError>;
    fn list(&mut self, dir: &str) -> Result<Vec<String>, DiskError>;
    fn sync_dir(&mut self, dir: &str) -> Result<(), DiskError>;
}
