"""What the web chat shows: words, messages, answer cards, the host panel, exports. Nothing here knows Gradio."""
