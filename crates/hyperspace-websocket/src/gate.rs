//! A bound on what is read from whoever has not shown yet that it may come in.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What may be read before the other side is admitted: the request with whatever a browser puts into it, and the token.
const BEFORE_ADMISSION: usize = 96 << 10;

/// A stream that gives only so many bytes until it is opened.
#[derive(Debug)]
pub(crate) struct Gate<S> {
    pub(crate) inner: S,
    /// What may still be read; `None`: everything.
    left: Option<usize>,
    /// Something came since somebody asked.
    came: bool,
}

impl<S> Gate<S> {
    pub(crate) fn shut(inner: S) -> Self {
        Self { inner, left: Some(BEFORE_ADMISSION), came: false }
    }

    pub(crate) fn open(inner: S) -> Self {
        Self { inner, left: None, came: false }
    }

    pub(crate) fn let_through(&mut self) {
        self.left = None;
    }

    /// Whether anything came since this was asked.
    pub(crate) fn take_came(&mut self) -> bool {
        std::mem::take(&mut self.came)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gate<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        let length = buffer.filled().len().saturating_sub(before);
        self.came |= length > 0;
        if let Some(left) = self.left {
            let rest = left.checked_sub(length);
            let Some(rest) = rest else {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("more than {BEFORE_ADMISSION} bytes came before an access token"),
                )));
            };
            self.left = Some(rest);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gate<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn it_gives_so_much_until_it_is_opened() {
        let (mut near, far) = tokio::io::duplex(2 * BEFORE_ADMISSION);
        let mut gate = Gate::shut(far);
        let mut buffer = vec![0; BEFORE_ADMISSION];
        near.write_all(&vec![1; BEFORE_ADMISSION]).await.unwrap();
        gate.read_exact(&mut buffer).await.unwrap();
        near.write_all(&[1]).await.unwrap();
        assert_eq!(gate.read(&mut buffer).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        gate.let_through();
        near.write_all(&vec![1; BEFORE_ADMISSION]).await.unwrap();
        gate.read_exact(&mut buffer).await.unwrap();
    }
}
