"""A classifier per user, one against the rest, on the features of the classifier of all."""

from typing import Any

import numpy as np

RECOGNISED, REJECTED, DISCRIMINATION = 0.7, 0.7, 0.3  # targets: shares of the user and of others, difference of means


class PerUserClassifiers:
    """Logistic regressions of standardised features, balanced: a user is as probable as all others together.

    features: of the training pictures, (N, F). users: (N,), each from 0 on with a picture.
    """

    def __init__(self, features: np.ndarray, users: np.ndarray) -> None:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        self.models = {}
        for user in np.unique(users).tolist():
            model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000))
            self.models[int(user)] = model.fit(features, users == user)

    def score(self, features: np.ndarray, users: np.ndarray) -> dict[str, Any]:
        """Of other pictures: means over their users, and `by_user`.

        `recognised`: the share of the user's pictures above probability ½; `rejected`: of the others' at most ½; `discrimination`: the mean
        probability of the user's less that of the others'. `passed`: the share of users who reach all three targets.
        """
        rows: dict[int, dict[str, float | None]] = {}
        for user in np.unique(users).tolist():
            own = users == user
            probability = self.models[user].predict_proba(features)[:, 1]
            rejected = float((probability[~own] <= 0.5).mean()) if (~own).any() else None
            others = float(probability[~own].mean()) if (~own).any() else 0.0
            rows[user] = {
                "recognised": float((probability[own] > 0.5).mean()),
                "rejected": rejected,
                "discrimination": float(probability[own].mean()) - others,
            }
        found: dict[str, Any] = {}
        for name in ("recognised", "rejected", "discrimination"):
            values = [value for row in rows.values() if (value := row[name]) is not None]
            found[name] = float(np.mean(values)) if values else None
        found["passed"] = float(np.mean([_passes(row) for row in rows.values()]))
        return found | {"by_user": rows}


def _passes(row: dict[str, float | None]) -> bool:
    targets = {"recognised": RECOGNISED, "rejected": REJECTED, "discrimination": DISCRIMINATION}
    return all((value := row[name]) is None or value > least for name, least in targets.items())
