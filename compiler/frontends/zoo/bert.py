"""BERT-base encoder and pooler (Devlin et al., NAACL 2019): 12 layers, 768 wide, 12 heads, vocabulary 30522."""

from __future__ import annotations

import torch
from torch import nn

VOCABULARY, WIDTH, HEADS, FEED_FORWARD, MAX_SEQUENCE, LAYERS = 30522, 768, 12, 3072, 512, 12


class SelfAttention(nn.Module):
    """softmax(q k^T / sqrt(d)) v per head, without a mask: (N, T, WIDTH) -> (N, T, WIDTH)."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(WIDTH, WIDTH)
        self.key = nn.Linear(WIDTH, WIDTH)
        self.value = nn.Linear(WIDTH, WIDTH)
        self.output = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        batch, tokens, width = x.shape
        head = width // HEADS
        q, k, v = (
            project(x).view(batch, tokens, HEADS, head).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        weights = torch.softmax(q @ k.transpose(-1, -2) * head**-0.5, dim=-1)
        return self.output((weights @ v).transpose(1, 2).reshape(batch, tokens, width))


class EncoderLayer(nn.Module):
    """Attention and feed-forward, each followed by the residual sum and a layer norm."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = SelfAttention()
        self.attention_norm = nn.LayerNorm(WIDTH, eps=1e-12)
        self.intermediate = nn.Linear(WIDTH, FEED_FORWARD)
        self.gelu = nn.GELU()
        self.output = nn.Linear(FEED_FORWARD, WIDTH)
        self.output_norm = nn.LayerNorm(WIDTH, eps=1e-12)

    def forward(self, x):
        x = self.attention_norm(x + self.attention(x))
        return self.output_norm(x + self.output(self.gelu(self.intermediate(x))))


class BertBase(nn.Module):
    """Token ids (N, T), int64 and below 30522, T at most 512 -> the pooled first token, (N, 768).

    No attention mask, and token type 0 throughout.
    """

    def __init__(self, layers: int = LAYERS) -> None:
        super().__init__()
        self.word = nn.Embedding(VOCABULARY, WIDTH)
        self.position = nn.Embedding(MAX_SEQUENCE, WIDTH)
        self.token_type = nn.Embedding(2, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, eps=1e-12)
        self.layers = nn.Sequential(*(EncoderLayer() for _ in range(layers)))
        self.pooler = nn.Linear(WIDTH, WIDTH)
        self.tanh = nn.Tanh()

    def forward(self, ids):
        x = self.word(ids) + self.position.weight[: ids.shape[1]] + self.token_type.weight[0]
        x = self.layers(self.norm(x))
        return self.tanh(self.pooler(x[:, 0]))
